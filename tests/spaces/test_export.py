from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from qdmerge.errors import CheckpointError
from qdmerge.spaces import ExpertSpace, TaskVectors, WeightSpace
from qdmerge.spaces._checkpoint import TensorInfo
from qdmerge.spaces._export import _header, write_checkpoint

from .conftest import Trio, write

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

    def torn() -> Iterator[tuple[str, torch.Tensor]]:
        stream = space.tensors(space.x0)
        yield next(stream)
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError, match="No space left"):
        write_checkpoint(trio.vectors().checkpoint, torn(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_named(trio: Trio, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    space = ExpertSpace(trio.vectors())
    with pytest.raises(CheckpointError, match="cannot be written"):
        space.export(space.x0, tmp_path / "file" / "out")
