from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from qdmerge.errors import CheckpointError
from tests.trios import SHAPES, Trio


def test_delta_is_expert_minus_base_in_float32(make_trio: Callable[..., Trio]) -> None:
    trio = make_trio(dtype=torch.bfloat16)
    vectors = trio.vectors()
    for name in SHAPES:
        delta = vectors.delta("db", name)
        assert delta.dtype == torch.float32
        expected = trio.experts["db"][name].float() - trio.base[name].float()
        assert torch.equal(delta, expected)
        assert vectors.base(name).dtype == torch.bfloat16


def test_names_shapes_and_kinds(trio: Trio) -> None:
    vectors = trio.vectors()
    assert set(vectors.names) == set(trio.base)
    assert vectors.experts == ("coding", "db", "os")
    assert vectors.shapes["scale"] == ()
    assert vectors.shapes["layers.1.conv.weight"] == (4, 3, 2, 2)
    assert not vectors.floating("layers.1.steps")


@pytest.mark.parametrize("memory", [0, 2**20])
def test_combine_is_the_same_streamed_and_resident(trio: Trio, memory: int) -> None:
    vectors = trio.vectors(memory=memory)
    assert vectors.resident == (memory > 0)
    weights = {"coding": 0.5, "db": -2.0, "os": 0.0}
    for name in SHAPES:
        for _ in range(2):  # the second time from memory, if it is kept
            merged = vectors.combine(name, torch.tensor(list(weights.values())))
            torch.testing.assert_close(
                merged.double(), trio.dense(weights, name), rtol=1e-5, atol=1e-5
            )
            merged.zero_()  # the caller may: what is kept must not change


def test_integers_are_the_base_s(trio: Trio) -> None:
    vectors = trio.vectors()
    for _ in range(2):
        steps = vectors.combine("layers.1.steps", torch.ones(3))
        assert steps.tolist() == [7, 8, 9]
        steps.zero_()


def test_fingerprint_follows_content_not_place(trio: Trio, tmp_path: Path) -> None:
    moved = {k: Path(shutil.copytree(p, tmp_path / k)) for k, p in trio.expert_paths.items()}
    copy = Trio(trio.base, trio.experts, trio.base_path, moved)
    assert copy.vectors().fingerprint == trio.vectors().fingerprint
    file = moved["os"] / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert copy.vectors().fingerprint != trio.vectors().fingerprint


def test_fingerprint_depends_on_the_order_of_experts(trio: Trio) -> None:
    turned = dict(reversed(trio.expert_paths.items()))
    other = Trio(trio.base, trio.experts, trio.base_path, turned)
    assert other.vectors().fingerprint != trio.vectors().fingerprint


def test_a_file_that_vanishes_later(trio: Trio, tmp_path: Path) -> None:
    moved = {k: Path(shutil.copytree(p, tmp_path / k)) for k, p in trio.expert_paths.items()}
    vectors = Trio(trio.base, trio.experts, trio.base_path, moved).vectors()
    (moved["db"] / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"head.weight cannot be read any more"):
        vectors.delta("db", "head.weight")
