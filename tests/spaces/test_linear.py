from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qdmerge.errors import CheckpointError
from qdmerge.spaces import DenseSpace, LayerSpace, layer_of
from tests.trios import Trio, with_adapters


@pytest.mark.parametrize(
    ("tensor", "group"),
    [
        ("model.layers.3.mlp.up_proj.weight", "model.layers.3"),
        ("encoder.blocks.11.0.conv.weight", "encoder.blocks.11"),
        ("decoder.blocks.11.norm.bias", "decoder.blocks.11"),
        ("model.embed_tokens.weight", "model.embed_tokens"),
        ("model.norm.weight", "model.norm"),
        ("scale", "scale"),
    ],
)
def test_layer_of(tensor: str, group: str) -> None:
    assert layer_of(tensor) == group


def test_a_coordinate_moves_its_layer_and_expert_only(trio: Trio) -> None:
    space = LayerSpace(trio.vectors())
    assert set(space.groups) == {"embed", "layers.0", "layers.1", "scale", "head"}
    assert space.dim == 5 * 3
    x = np.zeros(space.dim)
    x[3 * space.groups.index("layers.1") + 1] = 0.5  # expert db
    for name, tensor in space.tensors(x):
        if name.startswith("layers.1.") and tensor.is_floating_point():
            torch.testing.assert_close(
                tensor.double(), trio.dense({"db": 0.5}, name), rtol=1e-5, atol=1e-5
            )
        else:
            assert torch.equal(tensor, trio.base[name])


def test_groups_of_one_s_own(trio: Trio) -> None:
    space = LayerSpace(trio.vectors(), groups=lambda name: "w" if "weight" in name else "rest")
    assert sorted(space.groups) == ["rest", "w"]
    x = space.merge([1, 0, 0]).reshape(2, 3)
    x[space.groups.index("rest")] = 0
    merged = dict(space.tensors(x.ravel()))
    assert torch.equal(merged["scale"], trio.base["scale"])
    torch.testing.assert_close(merged["head.weight"], trio.experts["coding"]["head.weight"])


def test_the_dense_space_holds_every_number_that_an_expert_changes(
    trio: Trio, tmp_path: Path
) -> None:
    lora = with_adapters(trio, tmp_path / "lora", {"a": 2, "b": 1})
    space = DenseSpace(lora.vectors())
    changed = [name for name in lora.vectors().names if any(
        not torch.equal(tensors[name], trio.base[name]) for tensors in lora.experts.values()
    )]  # fmt: skip
    assert space.dim == sum(trio.base[name].numel() for name in changed)
    x = np.random.default_rng(0).normal(size=space.dim).astype(np.float32)
    moved = dict(space.tensors(x))
    flat = torch.cat([(moved[name] - trio.base[name]).ravel() for name in changed])
    np.testing.assert_allclose(flat.numpy(), x, atol=1e-5)
    with pytest.raises(CheckpointError, match="no LoRA adapter can hold a merge of the dense"):
        space.export_adapter(x, tmp_path / "out")


def test_unknown_grouping(trio: Trio) -> None:
    with pytest.raises(ValueError, match="'block'"):
        LayerSpace(trio.vectors(), groups="block")
