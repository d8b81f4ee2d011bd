"""Merged adapters as one adapter: peft loads it, and its weights are the merged ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, GPT2Config, GPT2LMHeadModel

from qdmerge.checkpoints import TaskVectors, checkpoint_problems, weights_digest
from qdmerge.errors import CheckpointError
from qdmerge.spaces import WeightSpace
from tests.checkpoints.test_adapter import llama, trained
from tests.trios import Trio, draw_lora, write_adapter

peft = pytest.importorskip("peft")

CASES: dict[str, tuple[Callable[[], torch.nn.Module], dict[str, dict[str, Any]]]] = {
    "same targets": (
        llama,
        {"a": {"target_modules": "all-linear"}, "b": {"target_modules": "all-linear", "r": 2}},
    ),
    "other targets": (
        lambda: llama(False),
        {"a": {"target_modules": ["q_proj"]}, "b": {"target_modules": ["v_proj", "embed_tokens"]}},
    ),
    "transposed": (
        lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=32)),
        {
            "a": {"target_modules": ["c_attn"], "fan_in_fan_out": True},
            "b": {"target_modules": ["c_attn"], "fan_in_fan_out": True, "r": 4},
        },
    ),
}


@pytest.mark.parametrize("kind", ["expert", "layer", "spectral", "core"])
@pytest.mark.parametrize("case", CASES)
def test_peft_gives_the_merged_weights(
    tmp_path: Path, make_space: Callable[..., WeightSpace], case: str, kind: str
) -> None:
    make, adapters = CASES[case]
    torch.manual_seed(2)
    make().save_pretrained(tmp_path / "base")
    for seed, (name, options) in enumerate(adapters.items()):
        trained(make().from_pretrained(tmp_path / "base"), tmp_path / name, seed, **options)
    paths = {name: tmp_path / name for name in adapters}
    space = make_space(kind, TaskVectors(tmp_path / "base", paths))
    x = np.random.default_rng(0).normal(size=space.dim)
    out = space.export_adapter(x, tmp_path / "out")
    ranks = [options.get("r", 3) for options in adapters.values()]
    assert json.loads((out / "adapter_config.json").read_text())["r"] <= sum(ranks)
    base = make().from_pretrained(tmp_path / "base")
    model = peft.PeftModel.from_pretrained(base, out)
    expected = model.merge_and_unload().state_dict()
    for name, tensor in space.tensors(x):
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
    # What was exported is an expert like any other.
    again = TaskVectors(tmp_path / "base", {"merged": out})
    for name, tensor in space.tensors(x):
        delta = tensor - space.vectors.base(name)
        torch.testing.assert_close(again.delta("merged", name), delta, rtol=1e-4, atol=1e-5)


def test_what_no_adapter_can_hold(trio: Trio, tmp_path: Path, make_space: Callable) -> None:
    tensors = draw_lora({"layers.0.attn": (8, 8)}, 2, 0)
    lora = write_adapter(tmp_path / "a", tensors | {"layers.0.norm.weight": torch.ones(8)})
    vectors = TaskVectors(trio.base_path, {"a": lora, "db": trio.expert_paths["db"]})
    space = make_space("expert", vectors)
    with pytest.raises(CheckpointError) as raised:
        space.export_adapter(space.x0, tmp_path / "out")
    message = str(raised.value)
    assert "whole checkpoints are among the experts: db" in message
    assert "expert 'a' changes layers.0.norm.weight" in message
    assert message.endswith("whole checkpoint instead (leave --adapter out)")
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


def test_a_convolution_s_adapter(trio: Trio, tmp_path: Path, make_space: Callable) -> None:
    shapes = {"layers.1.conv": (4, 3, 2, 2), "head": (6, 8)}
    paths = {k: write_adapter(tmp_path / k, draw_lora(shapes, 2, i)) for i, k in enumerate("ab")}
    space = make_space("expert", TaskVectors(trio.base_path, paths))
    out = space.export_adapter([0.5, -2], tmp_path / "out")
    a = load_file(out / "adapter_model.safetensors")["base_model.model.layers.1.conv.lora_A.weight"]
    assert a.shape == (4, 3, 2, 2)
    again = TaskVectors(trio.base_path, {"c": out})
    for name, tensor in space.tensors([0.5, -2]):
        if space.vectors.floating(name):
            expected = tensor - trio.base[name]
            torch.testing.assert_close(again.delta("c", name), expected, rtol=1e-4, atol=1e-5)


def test_it_tells_its_base(trio: Trio, tmp_path: Path, make_space: Callable) -> None:
    lora = write_adapter(tmp_path / "a", draw_lora({"head": (6, 8)}, 2, 0), task_type="CAUSAL_LM")
    space = make_space("expert", TaskVectors(trio.base_path, {"a": lora}))
    out = space.export_adapter([1.0], tmp_path / "out")
    record = json.loads((out / "qdmerge.json").read_text())
    assert record == {"base": {"sha256": weights_digest(trio.base_path)}}
    assert json.loads((out / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    assert checkpoint_problems(trio.base_path, {"out": out}) == []
    with pytest.raises(CheckpointError, match="already exists"):
        space.export_adapter([1.0], out)


def test_adapters_trained_without_the_head_become_one_for_the_whole_model(
    tmp_path: Path, make_space: Callable
) -> None:
    llama().save_pretrained(tmp_path / "base")
    headless = AutoModel.from_pretrained(tmp_path / "base")
    trained(headless, tmp_path / "a", 0, target_modules=["v_proj"], task_type="FEATURE_EXTRACTION")
    trained(llama(), tmp_path / "b", 1, target_modules=["q_proj"], task_type="CAUSAL_LM")
    for names, kind in (("a", None), ("ab", "CAUSAL_LM")):
        paths = {name: tmp_path / name for name in names}
        space = make_space("expert", TaskVectors(tmp_path / "base", paths))
        out = space.export_adapter(space.x0, tmp_path / names.upper())
        assert json.loads((out / "adapter_config.json").read_text()).get("task_type") == kind
        model = peft.PeftModel.from_pretrained(llama().from_pretrained(tmp_path / "base"), out)
        merged = model.merge_and_unload().state_dict()
        for name, tensor in space.tensors(space.x0):
            torch.testing.assert_close(tensor, merged[name], rtol=1e-4, atol=1e-5)
