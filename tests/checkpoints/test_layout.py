"""Files as transformers loads them: names, conversions and ties, against transformers itself."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from qdmerge.checkpoints import TaskVectors, checkpoint_problems, loading_problems
from qdmerge.spaces import ExpertSpace, SpectralSpace

Tensors = dict[str, torch.Tensor]

COMMON = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = COMMON | {"num_key_value_heads": 2, "intermediate_size": 48}
MOE = LLAMA | {"num_experts": 4, "num_experts_per_tok": 2}
GPT2 = {"vocab_size": 40, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
KINDS: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "mixtral": LLAMA | {"num_local_experts": 4},
    "qwen3_moe": MOE | {"moe_intermediate_size": 24, "head_dim": 8},
    "olmoe": MOE,
    "gemma": LLAMA | {"head_dim": 8},
    "opt": COMMON | {"word_embed_proj_dim": 32, "ffn_dim": 48, "max_position_embeddings": 64},
    "mamba": {"vocab_size": 40, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2},
    "phi3": LLAMA | {"pad_token_id": 0},
}


def model(kind: str, seed: int = 0, **options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **KINDS[kind], **options)
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return moved(made, seed)


def moved(made: torch.nn.Module, seed: int) -> torch.nn.Module:
    made = copy.deepcopy(made)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data.add_(0.1 * seed * torch.randn(parameter.shape, generator=generator))
    return made


def save(made: Any, folder: Path, silent: bool = False) -> Path:
    made.save_pretrained(folder)
    if silent:  # as older files are
        edit_config(folder, tie_word_embeddings=None)
    return folder


def edit_config(folder: Path, **entries: Any) -> Path:
    file = folder / "config.json"
    config = json.loads(file.read_text()) | entries
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def edit(folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    file = folder / "model.safetensors"
    tensors = change(load_file(file))
    save_file({n: t.clone() for n, t in tensors.items()}, file, metadata={"format": "pt"})
    return folder


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def assert_same(ours: Any, theirs: Any) -> None:
    state = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, state[name], rtol=1e-5, atol=1e-5, msg=name)


def assert_merged(base: Path, experts: dict[str, Path], out: Path, cache: Path) -> None:
    """Expression, gradients' names and export are those of models that transformers loads."""
    assert checkpoint_problems(base, experts) == []
    vectors = TaskVectors(base, experts)
    models = {name: plain(path) for name, path in experts.items()}
    for space in (ExpertSpace(vectors), SpectralSpace(vectors, 2, cache)):
        live = plain(base)
        for name, expected in models.items():
            space.express(space.seeds[name], live)
            assert_same(live, expected)
        half = space.merge([0.5] * len(experts))
        space.express(half, live)
        states = [one.state_dict() for one in (plain(base), *models.values())]
        for name, tensor in live.state_dict().items():
            first, *others = (state[name].double() for state in states)
            expected = first + sum(0.5 * (other - first) for other in others)
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-4, atol=1e-5, msg=name)
    path = space.export(half, out)
    written, info = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert_same(written, live)
    assert list(load_file(path / "model.safetensors")) == list(
        load_file(base / "model.safetensors")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_models_are_what_transformers_loads(kind: str, tmp_path: Path) -> None:
    base = save(model(kind), tmp_path / "base", silent=True)
    experts = {k: save(model(kind, i), tmp_path / k, silent=True) for i, k in ((1, "a"), (2, "b"))}
    assert loading_problems(base, "AutoModelForCausalLM") == []
    assert_merged(base, experts, tmp_path / "out", tmp_path / "cache")


def hub_names(tensors: Tensors) -> Tensors:
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def masks(prefix: str) -> Callable[[Tensors], Tensors]:
    mask = torch.full((1, 1, 32, 32), -torch.inf).triu(1)
    more = {f"{prefix}h.{i}.attn.bias": mask for i in range(2)}
    return lambda tensors: tensors | more


def inv_freq(tensors: Tensors) -> Tensors:
    more = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}
    return tensors | more


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gpt2", [hub_names]),
        ("gpt2", [masks("transformer.")]),
        ("gpt2", [hub_names, masks("")]),
        ("llama", [inv_freq]),
    ],
)
@pytest.mark.parametrize("old", [("base",), ("a",), ("base", "a"), ("base", "a", "b")])
def test_old_files_in_every_mix(
    kind: str, changes: list[Any], old: tuple[str, ...], tmp_path: Path
) -> None:
    paths = {k: save(model(kind, i), tmp_path / k) for i, k in enumerate(("base", "a", "b"))}
    for name in old:
        for change in changes:
            edit(paths[name], change)
    base = paths.pop("base")
    assert_merged(base, paths, tmp_path / "out", tmp_path / "cache")


EMBEDDINGS = {
    "gpt2": "transformer.wte.weight",
    "gemma": "model.embed_tokens.weight",
    "opt": "model.decoder.embed_tokens.weight",
    "mamba": "backbone.embeddings.weight",
}


@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.parametrize("stores", [("base",), ("a",), ("base", "a")])
def test_ties_by_default_where_files_store_both(
    kind: str, stores: tuple[str, ...], tmp_path: Path
) -> None:
    def with_head(tensors: Tensors) -> Tensors:
        return tensors | {"lm_head.weight": tensors[EMBEDDINGS[kind]]}

    def other_head(tensors: Tensors) -> Tensors:
        return tensors | {"lm_head.weight": tensors["lm_head.weight"] + 1}

    paths = {
        k: save(model(kind, i), tmp_path / k, silent=True) for i, k in enumerate(("base", "a", "b"))
    }
    for name in stores:
        edit(paths[name], with_head)
    base = paths.pop("base")
    assert_merged(base, paths, tmp_path / "out", tmp_path / "cache")
    if "a" in stores:
        edit(paths["a"], other_head)
        (problem,) = checkpoint_problems(base, paths)
        assert "'a'" in problem
        assert "does not tie lm_head.weight" in problem


OTHERWISE = {
    "rope_parameters.rope_theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 9.0}},
    "rope_parameters.factor": {
        "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    },
    "num_attention_heads": {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16},
    "rms_norm_eps": {"rms_norm_eps": 0.01},
    "hidden_act": {"hidden_act": "gelu"},
}


@pytest.mark.parametrize("entry", OTHERWISE)
def test_other_computation_is_named_unless_allowed(entry: str, tmp_path: Path) -> None:
    base = save(model("llama"), tmp_path / "base")
    expert = edit_config(save(model("llama", 1), tmp_path / "a"), **OTHERWISE[entry])
    (problem,) = checkpoint_problems(base, {"a": expert})
    assert "'a'" in problem
    assert f"{entry} " in problem
    allowed = problem.partition("config_differences: [")[2].partition("]")[0].split(", ")
    assert checkpoint_problems(base, {"a": expert}, allowed) == []
    assert TaskVectors(base, {"a": expert}, config_differences=allowed).experts == ("a",)
    assert checkpoint_problems(base, {"a": expert}, allowed[1:])


@pytest.mark.parametrize("silent", ["base", "a"])
def test_an_entry_that_one_file_leaves_out_has_its_default(silent: str, tmp_path: Path) -> None:
    paths = {k: save(model("llama", i), tmp_path / k) for i, k in enumerate(("base", "a"))}
    for name, path in paths.items():
        edit_config(path, rms_norm_eps=None if name == silent else 0.01)
    (problem,) = checkpoint_problems(paths["base"], {"a": paths["a"]})
    values = "1e-06 -> 0.01" if silent == "base" else "0.01 -> 1e-06"
    assert f"rms_norm_eps {values}" in problem


@pytest.mark.parametrize(
    "entries",
    [
        {"use_cache": False, "eos_token_id": 7, "dtype": "bfloat16", "transformers_version": "4.1"},
        {"max_position_embeddings": 8192},  # nothing but the length of what may be asked
        {"attention_dropout": 0.3, "initializer_range": 0.5, "_name_or_path": "x/y"},
        {"rope_parameters": None, "rope_theta": 10000.0},  # as transformers 4 writes it
        {"rms_norm_eps": None, "hidden_act": None},  # the default, unwritten
        {"_attn_implementation_autoset": True},
    ],
)
def test_entries_without_effect_may_differ(entries: dict[str, Any], tmp_path: Path) -> None:
    base = save(model("llama"), tmp_path / "base")
    expert = edit_config(save(model("llama", 1), tmp_path / "a"), **entries)
    assert checkpoint_problems(base, {"a": expert}) == []


@pytest.mark.parametrize("kind", ["type", "rope_type"])
def test_older_names_of_entries_are_the_same_entries(kind: str, tmp_path: Path) -> None:
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    base = save(model("llama", rope_parameters=scaled), tmp_path / "base")
    older: dict[str, Any] = {"rope_parameters": None, "rope_theta": 10000}
    older["rope_scaling"] = {kind: "linear", "factor": 2}
    expert = edit_config(save(model("llama", 1), tmp_path / "a"), **older)
    assert (
        checkpoint_problems(base, {"a": expert}) == checkpoint_problems(expert, {"a": base}) == []
    )
    older["rope_scaling"]["factor"] = 3
    (problem,) = checkpoint_problems(base, {"a": edit_config(expert, **older)})
    assert "(base -> expert): rope_parameters.factor 2.0 -> 3; " in problem


def test_classes_of_the_same_names_have_the_same_numbers(tmp_path: Path) -> None:
    labels = {"0": "ground", "1": "cat", "2": "dog"}
    base = edit_config(save(model("llama"), tmp_path / "base"), id2label=labels)
    expert = edit_config(save(model("llama", 1), tmp_path / "a"), id2label=labels | {"2": "fox"})
    assert checkpoint_problems(base, {"a": expert}) == []
    edit_config(expert, id2label=labels | {"1": "dog", "2": "cat"})
    (problem,) = checkpoint_problems(base, {"a": expert})
    assert "id2label.1 cat -> dog, id2label.2 dog -> cat" in problem
    assert checkpoint_problems(base, {"a": expert}, ["id2label"]) == []


@pytest.mark.parametrize("known", [True, False])
def test_where_a_model_was_made_has_no_effect(known: bool, tmp_path: Path) -> None:
    folders = [save(model("llama", seed), tmp_path / str(seed)) for seed in (0, 1)]
    for folder in folders:
        edit_config(folder, _name_or_path=str(folder), **({} if known else {"model_type": "new"}))
    assert checkpoint_problems(folders[0], {"a": folders[1]}) == []


QUANTIZED: dict[str, Callable[[torch.Tensor], Tensors]] = {
    "bitsandbytes": lambda w: {"weight": w.to(torch.int8), "SCB": w[:, 0]},
    "gptq": lambda w: {"qweight": w.int(), "qzeros": w.int(), "scales": w.half()},
    "awq": lambda w: {"qweight": w.int(), "qzeros": w.int(), "scales": w.half()},
    "fp8": lambda w: {"weight": w.to(torch.float8_e4m3fn), "weight_scale_inv": w[:1, :1]},
    "compressed-tensors": lambda w: {"weight_packed": w.int(), "weight_scale": w[:1]},
}


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("method", QUANTIZED)
def test_quantized_models_get_one_sentence(method: str, said: bool, tmp_path: Path) -> None:
    def codes(tensors: Tensors) -> Tensors:
        found = {}
        for name, tensor in tensors.items():
            made = QUANTIZED[method](tensor) if "_proj" in name else {"weight": tensor}
            found |= {f"{name.removesuffix('weight')}{part}": t for part, t in made.items()}
        return found

    paths = {k: save(model("llama", i), tmp_path / k) for i, k in enumerate(("plain", "odd"))}
    edit(paths["odd"], codes)
    if said:
        edit_config(paths["odd"], quantization_config={"quant_method": method})
    for base, expert in (("plain", "odd"), ("odd", "plain")):
        (problem,) = checkpoint_problems(paths[base], {"a": paths[expert]})
        assert problem.startswith("base" if base == "odd" else "expert 'a'")
        assert "is quantized" in problem
        assert "16 bits" in problem
        assert (f"({method})" in problem) == said


def test_what_transformers_cannot_make_says_why(tmp_path: Path) -> None:
    folder = save(model("llama"), tmp_path / "base")
    assert loading_problems(folder) == []
    edit(folder, lambda tensors: {n: t for n, t in tensors.items() if "norm" not in n})
    (problem,) = loading_problems(folder)
    assert problem.startswith("lacks tensors of LlamaForCausalLM: model.layers.0.input_layernorm")
    edit_config(folder, model_type="llava", architectures=["LlavaForConditionalGeneration"])
    (problem,) = loading_problems(folder, "AutoModelForCausalLM")
    assert "type 'llava'" in problem
    edit_config(folder, model_type="unheard_of")
    assert "unheard_of" in loading_problems(folder)[0]
