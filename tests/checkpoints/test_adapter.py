"""LoRA adapters as experts, against peft's own merging and against the definition."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from qdmerge.checkpoints import TaskVectors, checkpoint_problems
from qdmerge.spaces import ExpertSpace, WeightSpace


def llama(tied: bool = True, **options: Any) -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=24,
        vocab_size=32,
        tie_word_embeddings=tied,
        **options,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def trained(model: torch.nn.Module, path: Path, seed: int, **options: Any) -> torch.nn.Module:
    """Save an adapter with drawn weights; return peft's own merged model."""
    peft = pytest.importorskip("peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(model, peft.LoraConfig(**{"r": 3, **options}))
        generator = torch.Generator().manual_seed(seed)
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        wrapped.save_pretrained(path)
        return wrapped.merge_and_unload()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(torch.arange(10)[None]).logits


CASES: dict[str, tuple[Callable[[], torch.nn.Module], dict[str, Any]]] = {
    "plain": (llama, {"target_modules": ["q_proj", "v_proj"], "lora_alpha": 7}),
    "all linear": (llama, {"target_modules": "all-linear"}),
    "rslora": (llama, {"target_modules": ["up_proj"], "use_rslora": True, "lora_alpha": 5}),
    "patterns": (
        llama,
        {
            "target_modules": ["q_proj", "down_proj"],
            "rank_pattern": {"layers.1.self_attn.q_proj": 5, "^model.layers.0.mlp.down_proj": 1},
            "alpha_pattern": {r".*\.down_proj": 11, "q": 90},
        },
    ),
    "saved modules": (llama, {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}),
    "embedding": (lambda: llama(False), {"target_modules": ["embed_tokens", "q_proj", "lm_head"]}),
    "saved head": (
        lambda: llama(False),
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ),
    "biases": (
        lambda: llama(attention_bias=True),
        {"target_modules": ["q_proj"], "lora_bias": True},
    ),
    "all biases": (
        lambda: llama(attention_bias=True),
        {"target_modules": ["q_proj"], "bias": "all"},
    ),
    "transposed": (
        lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=32)),
        {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("memory", [0, 2**28])
def test_an_adapter_gives_the_weights_that_peft_merges(
    tmp_path: Path, case: str, memory: int
) -> None:
    make, options = CASES[case]
    torch.manual_seed(1)
    model = make()
    model.save_pretrained(tmp_path / "base")
    expected = trained(model, tmp_path / "db", 1, **options).state_dict()
    vectors = TaskVectors(tmp_path / "base", {"db": tmp_path / "db"}, memory=memory)
    space = ExpertSpace(vectors)
    changed = 0
    for name, tensor in space.tensors(space.seeds["db"]):
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
        delta = expected[name] - vectors.base(name)
        torch.testing.assert_close(vectors.delta("db", name), delta, rtol=1e-4, atol=1e-6)
        assert vectors.is_changed(name) or not delta.any()
        changed += bool(delta.any())
    assert changed >= 2


def test_tied_embeddings_that_are_adapted_together(tmp_path: Path) -> None:
    model = llama()
    model.save_pretrained(tmp_path / "base")
    options = {"target_modules": ["embed_tokens"], "ensure_weight_tying": True}
    trained(model, tmp_path / "db", 1, **options)
    peft = pytest.importorskip("peft")  # its merging adds to the shared tensor twice: not merged
    expected = peft.PeftModel.from_pretrained(llama(), tmp_path / "db")
    space = ExpertSpace(TaskVectors(tmp_path / "base", {"db": tmp_path / "db"}))
    live = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    space.express(space.seeds["db"], live)
    assert live.lm_head.weight is live.model.embed_tokens.weight
    torch.testing.assert_close(logits(live), logits(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", ["target_modules", "modules_to_save"])
@pytest.mark.parametrize("layer", ["embed_tokens", "lm_head"])
def test_tied_embeddings_that_are_adapted_apart(tmp_path: Path, option: str, layer: str) -> None:
    model = llama()
    model.save_pretrained(tmp_path / "base")
    trained(model, tmp_path / "db", 1, **({"target_modules": ["q_proj"]} | {option: [layer]}))
    (problem,) = checkpoint_problems(tmp_path / "base", {"db": tmp_path / "db"})
    assert layer in problem
    assert "ties" in problem


def test_an_adapter_of_the_model_without_its_head(tmp_path: Path) -> None:
    model = llama()
    model.save_pretrained(tmp_path / "base")
    expected = trained(model.model, tmp_path / "db", 1, target_modules=["q_proj"]).state_dict()
    space = ExpertSpace(TaskVectors(tmp_path / "base", {"db": tmp_path / "db"}))
    for name, tensor in space.tensors(space.seeds["db"]):
        torch.testing.assert_close(tensor, expected[name.removeprefix("model.")])


@pytest.mark.parametrize("kind", ["spectral", "core"])
def test_an_expressed_adapter_answers_like_peft_s_merge(
    tmp_path: Path, make_space: Callable[..., WeightSpace], kind: str
) -> None:
    """Into a model with tied embeddings, beside an expert that is a whole checkpoint."""
    base = llama()
    base.save_pretrained(tmp_path / "base")
    expert = trained(base, tmp_path / "db", 1, target_modules="all-linear")
    torch.manual_seed(3)
    LlamaForCausalLM(base.config).save_pretrained(tmp_path / "os")
    vectors = TaskVectors(tmp_path / "base", {"db": tmp_path / "db", "os": tmp_path / "os"})
    space = make_space(kind, vectors, 2)
    live = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    for name, model in {
        "db": expert,
        "os": AutoModelForCausalLM.from_pretrained(tmp_path / "os"),
        "base": AutoModelForCausalLM.from_pretrained(tmp_path / "base"),
    }.items():
        space.express(space.seeds[name], live)
        torch.testing.assert_close(logits(live), logits(model), rtol=1e-4, atol=1e-5)
    assert live.lm_head.weight is live.model.embed_tokens.weight
