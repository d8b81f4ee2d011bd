"""NaN and infinity: wherever they are, they are named before any model is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from qdmerge.checkpoints import TaskVectors, checkpoint_problems
from qdmerge.checkpoints._values import not_finite
from qdmerge.errors import CheckpointError
from qdmerge.spaces import ExpertSpace, WeightSpace
from tests.trios import SHAPES, Trio, draw_lora, write, write_adapter

LORA = draw_lora({"layers.0.attn": (8, 8)}, 2, 0)
TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
ODD = (torch.nan, torch.inf, -torch.inf)


@pytest.mark.parametrize("memory", [0, 2**20])
@pytest.mark.parametrize("where", ["base", "db", "lora"])
@pytest.mark.parametrize("name", SHAPES)
def test_any_tensor_of_any_model(
    trio: Trio, tmp_path: Path, where: str, name: str, memory: int
) -> None:
    models = {"base": trio.base, "db": trio.experts["db"], "lora": dict(LORA)}
    name = name if where != "lora" else list(LORA)[len(name) % 2]
    models[where] = models[where] | {name: models[where][name].clone()}
    models[where][name].view(-1)[-1] = ODD[len(name) % 3]
    base, db = (write(tmp_path / k, models[k]) for k in ("base", "db"))
    experts = {"good": db if where != "db" else base, "db": db}
    experts["lora"] = write_adapter(tmp_path / "lora", models["lora"])
    (problem,) = checkpoint_problems(base, experts)
    assert problem.startswith("base" if where == "base" else f"expert {where!r}")
    assert f"holds NaN or infinity: {'base_model.model.' * (where == 'lora')}{name}" in problem
    with pytest.raises(CheckpointError, match="NaN"):
        TaskVectors(base, experts, memory=memory)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("place", [0, 2, -1])
def test_any_value_of_any_type(
    tmp_path: Path, dtype: torch.dtype, place: int, odd: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qdmerge.checkpoints._values._BLOCK", 16)
    largest = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
    good = torch.tensor([largest, -largest, torch.finfo(dtype).tiny, 0.0] * 5, dtype=dtype)
    bad = good.clone()
    bad[place] = odd
    file = write(tmp_path / "m", {"a": good, "n": torch.tensor([-1]), "z": bad}, shards=2)
    assert not_finite(tuple(file.glob("*.safetensors")), {"a", "n"}) == []
    assert not_finite(tuple(file.glob("*.safetensors")), {"a", "z"}) == ["holds NaN or infinity: z"]


@pytest.mark.parametrize("memory", [0, 2**20])
@pytest.mark.parametrize("kind", ["expert", "layer", "spectral", "core", "dense"])
def test_an_infinite_difference_spoils_no_other_model(
    trio: Trio,
    tmp_path: Path,
    make_space: Callable[..., WeightSpace],
    kind: str,
    memory: int,
) -> None:
    """Two finite values may be too far apart: refused, or the other expert is what it was."""
    huge = trio.base | {"layers.0.attn.weight": torch.full((8, 8), 3e38)}
    far = trio.experts["db"] | {"layers.0.attn.weight": torch.full((8, 8), -3e38)}
    base = write(tmp_path / "base", huge)
    experts = {"far": write(tmp_path / "far", far), "near": trio.expert_paths["os"]}
    vectors = TaskVectors(base, experts, memory=memory)
    try:
        space = make_space(kind, vectors, 2)
        merged = dict(space.tensors(space.seeds["near"]))
    except CheckpointError as error:
        assert "'far' differs from the base infinitely in layers.0.attn.weight" in str(error)
    else:
        assert all(tensor.isfinite().all() for tensor in merged.values())


def test_what_float32_cannot_hold(tmp_path: Path) -> None:
    file = write(tmp_path / "m", {"a": torch.tensor([1e39], dtype=torch.float64)})
    assert not_finite(tuple(file.glob("*.safetensors")), {"a"})


def test_a_file_that_changes_is_read_again(make_trio: Callable[..., Trio]) -> None:
    trio = make_trio()
    assert checkpoint_problems(trio.base_path, trio.expert_paths) == []
    file = trio.expert_paths["os"] / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-2:] = b"\xff\x7f"
    file.write_bytes(content)
    assert "'os'" in checkpoint_problems(trio.base_path, trio.expert_paths)[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("value", "fits"), [(65280.0, True), (-65536.0, False), (1e30, False)])
def test_what_a_base_in_float16_cannot_hold(
    trio: Trio, tmp_path: Path, dtype: torch.dtype, value: float, fits: bool
) -> None:
    base = write(tmp_path / "base", {name: t.half() for name, t in trio.base.items()})
    large = trio.experts["db"] | {"layers.0.attn.weight": torch.full((8, 8), value)}
    expert = write(tmp_path / "a", {name: tensor.to(dtype) for name, tensor in large.items()})
    found = checkpoint_problems(base, {"a": expert})
    assert fits == (not found)
    assert fits or "float16, the base's type, cannot: layers.0.attn.weight" in found[0]


def test_no_infinity_is_exported(trio: Trio, tmp_path: Path) -> None:
    base = write(tmp_path / "base", {name: t.half() for name, t in trio.base.items()})
    large = {name: tensor.float() for name, tensor in trio.base.items()}
    large["layers.0.attn.weight"] = torch.full((8, 8), 4e4)
    space = ExpertSpace(TaskVectors(base, {"a": write(tmp_path / "a", large)}))
    with pytest.raises(CheckpointError, match="layers.0.attn.weight is too large for F16"):
        space.export(2 * space.seeds["a"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
