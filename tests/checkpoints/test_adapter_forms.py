"""Every form of LoRA that peft writes: merged as peft merges it, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from qdmerge.checkpoints import TaskVectors, checkpoint_problems
from qdmerge.errors import CheckpointError
from qdmerge.spaces import ExpertSpace
from tests.checkpoints.test_adapter import llama, trained
from tests.checkpoints.test_layout import hub_names, model

Make = Callable[[], Any]


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=32))


def square() -> Any:
    return llama(False, attention_bias=True)


MERGED: dict[str, tuple[Make, dict[str, Any]]] = {
    "ranks and alphas": (
        gpt2,
        {
            "target_modules": ["c_attn", "c_proj"],
            "rank_pattern": {"h.1.attn.c_proj": 5, "mlp.c_proj": 1},
            "alpha_pattern": {"attn.c_proj": 11},
            "use_rslora": True,
        },
    ),
    "layers": (llama, {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]}),
    "one layer of a pattern": (
        gpt2,
        {"target_modules": ["c_attn"], "layers_to_transform": 0, "layers_pattern": "h"},
    ),
    "excluded": (llama, {"target_modules": "all-linear", "exclude_modules": r".*\.1\..*"}),
    "biases of its own": (square, {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "saved norms": (gpt2, {"target_modules": ["c_fc"], "modules_to_save": ["ln_f", "ln_1"]}),
    "saved positions": (gpt2, {"target_modules": ["c_fc"], "modules_to_save": ["wpe"]}),
    "positions": (gpt2, {"target_modules": ["wpe", "c_attn"]}),
    "saved embeddings": (
        lambda: llama(False),
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    ),
    "embeddings": (lambda: llama(False), {"target_modules": ["embed_tokens", "lm_head"]}),
    "square": (square, {"target_modules": ["q_proj", "o_proj"]}),
    "square, transposed": (gpt2, {"target_modules": ["attn.c_proj"]}),
    "attention beside fused experts": (
        lambda: model("mixtral"),
        {"target_modules": ["q_proj", "o_proj"]},
    ),
    "orthogonal": (
        llama,
        {"target_modules": ["q_proj"], "r": 4, "init_lora_weights": "orthogonal"},
    ),
    "gaussian": (llama, {"target_modules": ["q_proj"], "init_lora_weights": "gaussian"}),
}


def edit_adapter(folder: Path, **entries: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def assert_merged(base: Path, adapter: Path, expected: torch.nn.Module) -> None:
    assert checkpoint_problems(base, {"a": adapter}) == []
    space = ExpertSpace(TaskVectors(base, {"a": adapter}))
    live = AutoModelForCausalLM.from_pretrained(base)
    before = {name: tensor.clone() for name, tensor in live.state_dict().items()}
    space.express(space.seeds["a"], live)
    state = expected.state_dict()
    for name, tensor in live.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=1e-5, atol=1e-5, msg=name)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in live.state_dict().items())


@pytest.mark.parametrize("form", MERGED)
def test_what_peft_merges(form: str, tmp_path: Path) -> None:
    make, options = MERGED[form]
    base = make()
    base.save_pretrained(tmp_path / "base")
    expected = trained(base, tmp_path / "a", 1, **options)
    assert_merged(tmp_path / "base", tmp_path / "a", expected)


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("form", ["square", "square, transposed", "ranks and alphas"])
def test_the_layer_decides_on_orientation(form: str, said: bool, tmp_path: Path) -> None:
    make, options = MERGED[form]
    base = make()
    base.save_pretrained(tmp_path / "base")
    expected = trained(base, tmp_path / "a", 1, **options)
    edit_adapter(tmp_path / "a", fan_in_fan_out=said)
    assert_merged(tmp_path / "base", tmp_path / "a", expected)


@pytest.mark.parametrize("headless", [False, True])
@pytest.mark.parametrize("target", ["attn.c_proj", "wpe"])
def test_names_of_adapter_and_base_may_differ(headless: bool, target: str, tmp_path: Path) -> None:
    base = gpt2()
    base.save_pretrained(tmp_path / "base")
    file = tmp_path / "base" / "model.safetensors"
    save_file(hub_names(load_file(file)), file, metadata={"format": "pt"})
    part = base.transformer if headless else base
    trained(part, tmp_path / "a", 1, target_modules=[target])  # in place: base is merged too
    assert_merged(tmp_path / "base", tmp_path / "a", base)


REFUSED: dict[str, tuple[Make, dict[str, Any], str]] = {
    "dora": (llama, {"target_modules": ["q_proj"], "use_dora": True}, "DoRA"),
    "parameters": (
        lambda: model("mixtral"),
        {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj"]},
        "target_parameters",
    ),
    "tokens": (
        lambda: llama(False),
        {"target_modules": ["q_proj"], "trainable_token_indices": [1, 3]},
        "trainable_token_indices",
    ),
    "tied tokens": (
        llama,
        {"target_modules": ["q_proj"], "trainable_token_indices": [1, 3]},
        "trainable_token_indices",
    ),
    "pissa": (llama, {"target_modules": ["q_proj"], "init_lora_weights": "pissa"}, "pissa"),
    "olora": (llama, {"target_modules": ["q_proj"], "init_lora_weights": "olora"}, "olora"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_more_than_a_product_is_refused(form: str, tmp_path: Path) -> None:
    make, options, named = REFUSED[form]
    make().save_pretrained(tmp_path / "base")
    trained(make(), tmp_path / "a", 1, **options)
    (problem,) = checkpoint_problems(tmp_path / "base", {"a": tmp_path / "a"})
    assert problem.startswith("expert 'a'")
    assert named in problem
    if "init_lora_weights" not in options:  # tensors tell, whatever the configuration says
        edit_adapter(tmp_path / "a", **dict.fromkeys(options.keys() - {"target_modules"}))
        assert checkpoint_problems(tmp_path / "base", {"a": tmp_path / "a"})


def test_one_expert_of_a_mixture_that_transformers_fuses(tmp_path: Path) -> None:
    """Check and run agree, although the file holds the matrix under the adapter's name."""
    base, adapter = tmp_path / "base", tmp_path / "a"
    model("mixtral").save_pretrained(base)
    tensors = load_file(base / "model.safetensors")
    name = next(name for name in tensors if name.endswith("experts.0.w1.weight"))
    rows, columns = tensors[name].shape
    lora = f"base_model.model.{name.removesuffix('.weight')}"
    adapter.mkdir()
    factors = {"A": torch.ones(2, columns), "B": torch.ones(rows, 2)}
    save_file(
        {f"{lora}.lora_{side}.weight": factor for side, factor in factors.items()},
        adapter / "adapter_model.safetensors",
    )
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    (problem,) = checkpoint_problems(base, {"a": adapter})
    assert "adapts tensors that the base lacks" in problem
    with pytest.raises(CheckpointError, match="adapts tensors that the base lacks"):
        TaskVectors(base, {"a": adapter})
