from __future__ import annotations

import functools
import json
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from qdmerge.checkpoints import TaskVectors, TensorInfo, write_checkpoint
from qdmerge.checkpoints._export import _header
from qdmerge.errors import CheckpointError
from qdmerge.spaces import ExpertSpace, WeightSpace
from tests.trios import SHAPES, Trio, write

MakeTrio = Callable[..., Trio]


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    return {k: t for file in folder.glob("*.safetensors") for k, t in load_file(file).items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shards", [0, 3])
def test_round_trip(
    make_trio: MakeTrio,
    make_space: Callable[..., WeightSpace],
    tmp_path: Path,
    dtype: torch.dtype,
    shards: int,
) -> None:
    trio = make_trio(dtype=dtype, shards=shards)
    space = make_space("spectral", trio.vectors())
    x = np.random.default_rng(0).normal(size=space.dim)
    folder = space.export(x, tmp_path / "out")
    got = loaded(folder)
    for name, tensor in space.tensors(x):
        assert got[name].dtype == trio.base[name].dtype
        assert torch.equal(got[name], tensor)
    files = {f.name for f in folder.iterdir()}
    assert files == {f.name for f in trio.base_path.iterdir()}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as ours, safe_open(trio.base_path / file.name, "pt") as base:
            assert ours.metadata() == {"format": "pt"}
            assert ours.offset_keys() == base.offset_keys()
    # An export is a checkpoint like any other, and can be merged again.
    again = TaskVectors(folder, trio.expert_paths)
    assert again.names == trio.vectors().names


@pytest.mark.parametrize("length", range(1, 9))
def test_the_data_is_aligned(length: int) -> None:
    header = _header({"n" * length: TensorInfo(Path("any"), "F32", (2,), 8)})
    assert len(header) % 8 == 0
    assert int.from_bytes(header[:8], "little") == len(header) - 8


def test_companions_are_copied_and_weights_are_not(trio: Trio, tmp_path: Path) -> None:
    base = write(tmp_path / "base", trio.base, config={"model_type": "llama"})
    wanted = {"config.json", "tokenizer.json", "chat_template.jinja", "merges.txt", "spiece.model"}
    wanted |= {"modeling_own.py", "configuration_own.py"}  # what auto_map of config.json names
    unwanted = {
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "optimizer.pt",
        "README.md",
        "trainer_state.json",
    }
    for name in (wanted | unwanted) - {"config.json"}:
        (base / name).write_text("{}")
    (base / "logs").mkdir()
    space = ExpertSpace(TaskVectors(base, trio.expert_paths))
    folder = space.export(space.x0, tmp_path / "out")
    assert {f.name for f in folder.iterdir()} == wanted | {"model.safetensors"}
    assert json.loads((folder / "config.json").read_text()) == {"model_type": "llama"}


def test_a_bare_file_gives_a_bare_folder(trio: Trio, tmp_path: Path) -> None:
    file = (trio.base_path / "model.safetensors").rename(trio.base_path / "weird.safetensors")
    try:
        (trio.base_path / "config.json").write_text("{}")
        space = ExpertSpace(TaskVectors(file, trio.expert_paths))
        folder = space.export(space.x0, tmp_path / "out")
        assert [f.name for f in folder.iterdir()] == ["model.safetensors"]
    finally:
        (trio.base_path / "config.json").unlink()
        file.rename(trio.base_path / "model.safetensors")


@settings(max_examples=15)
@given(names=st.sets(st.sampled_from([*SHAPES, "layers.1.steps"])), seed=st.integers(0, 99))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shards", [0, 3])
def test_replaced_tensors_are_written_in_the_base_s_dtypes_and_no_others_change(
    make_trio: MakeTrio,
    tmp_path_factory: pytest.TempPathFactory,
    dtype: torch.dtype,
    shards: int,
    names: set[str],
    seed: int,
) -> None:
    root = tmp_path_factory.mktemp("replaced")
    trio = _kept(make_trio, dtype, shards)
    space = ExpertSpace(trio.vectors())
    x = np.random.default_rng(seed).normal(size=space.dim)
    generator = torch.Generator().manual_seed(seed)
    new = {
        # Not contiguous, of another dtype, and part of a graph: as a live module has them.
        name: torch.randn(trio.base[name].shape[::-1], generator=generator, dtype=torch.float64)
        .requires_grad_()
        .mul(9)
        .permute(tuple(range(trio.base[name].ndim))[::-1])
        for name in names
    }
    got = loaded(space.export(x, root / "out", replace=new))
    merged = dict(space.tensors(x))
    assert set(got) == set(merged)
    for name, tensor in got.items():
        assert tensor.dtype == trio.base[name].dtype
        expected = new[name].detach().to(tensor.dtype) if name in names else merged[name]
        assert torch.equal(tensor, expected)


@functools.cache
def _kept(make_trio: MakeTrio, dtype: torch.dtype, shards: int) -> Trio:
    return make_trio(dtype=dtype, shards=shards)


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ({"layers.1.running_men": torch.ones(4)}, "did you mean 'layers.1.running_mean'"),
        (
            {"scale": torch.ones(()), "head.weight": torch.ones(8, 6)},
            r"\(6, 8\); received \(8, 6\)",
        ),
        ({"scale": torch.ones(1)}, r"has shape \(\); received \(1,\)"),
    ],
)
def test_wrong_replacements_are_refused_and_nothing_is_written(
    trio: Trio, tmp_path: Path, replace: dict[str, torch.Tensor], message: str
) -> None:
    space = ExpertSpace(trio.vectors())
    with pytest.raises(ValueError, match=message):
        space.export(space.x0, tmp_path / "out", replace=replace)
    assert not list(tmp_path.iterdir())


def test_one_tensor_is_merged_at_a_time(trio: Trio, tmp_path: Path) -> None:
    """Each merged tensor is on its way to the file before the next one is made."""
    space = ExpertSpace(trio.vectors())
    at_once: list[int] = []
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    merged = space._merger(torch.from_numpy(space.x0.copy()))

    def watched(name: str, device: object) -> torch.Tensor:
        at_once.append(len(alive))
        tensor = merged(name, "cpu")
        alive.add(tensor)
        return tensor

    space._merger = lambda x: watched  # type: ignore[method-assign]
    space.export(space.x0, tmp_path / "out", replace={"scale": torch.ones(())})
    assert len(at_once) == len(trio.base)
    assert max(at_once) <= 1


def test_what_exists_is_never_overwritten(trio: Trio, tmp_path: Path) -> None:
    space = ExpertSpace(trio.vectors())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="already exists"):
        space.export(space.x0, tmp_path / "full")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="already exists"):
        space.export(space.x0, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert (space.export(space.x0, tmp_path / "empty") / "model.safetensors").is_file()


def test_a_failure_leaves_nothing_behind(trio: Trio, tmp_path: Path) -> None:
    space = ExpertSpace(trio.vectors())
    tensors = dict([next(space.tensors(space.x0))])

    def torn(name: str) -> torch.Tensor:
        if name in tensors:
            return tensors[name]
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="No space left"):
        write_checkpoint(trio.vectors().checkpoint, torn, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_named(trio: Trio, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    space = ExpertSpace(trio.vectors())
    with pytest.raises(CheckpointError, match="cannot be written"):
        space.export(space.x0, tmp_path / "file" / "out")
