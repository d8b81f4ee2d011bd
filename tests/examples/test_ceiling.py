"""The ceiling of a space: its differentiable models, and the climb."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qdmerge.checkpoints import TaskVectors
from qdmerge.spaces import (
    CoreSpace,
    ExpertSpace,
    LayerSpace,
    LinearSpace,
    RegMeanSpace,
    SpectralSpace,
)
from tests.spaces.networks import AtWork, net

PAPER = Path(__file__).parents[2] / "examples" / "paper"
SHAPES = {
    "layers.1.conv.weight": (12, 4, 3, 3),
    "layers.1.conv.bias": (12,),
    "layers.11.up.weight": (9, 14),
    "layers.11.down.weight": (3, 14),
    "head.scale": (),
}


@pytest.fixture
def space(request: pytest.FixtureRequest, tmp_path: Path) -> LinearSpace:
    """A space over three experts; of rank 2, which leaves a rest of all matrices but one core's."""
    draws = torch.Generator().manual_seed(0)
    paths = {}
    for name in ("base", "a", "b", "c"):
        tensors = {key: torch.randn(shape, generator=draws) for key, shape in SHAPES.items()}
        tensors["steps"] = torch.tensor([3])
        paths[name] = tmp_path / f"{name}.safetensors"
        save_file(tensors, paths[name])
    vectors = TaskVectors(paths.pop("base"), paths)
    options = {"rank": 2, "cache": tmp_path} if request.param in (SpectralSpace, CoreSpace) else {}
    return request.param(vectors, **options)


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(PAPER))
    return "_differentiable"


@pytest.mark.parametrize(
    "space", [ExpertSpace, LayerSpace, SpectralSpace, CoreSpace], indirect=True
)
def test_models_are_the_spaces_and_gradients_those_of_the_map(
    space: LinearSpace, paper: str
) -> None:
    module: ModuleType = importlib.import_module(paper)
    weights, units = module.differentiable(space)
    rng = np.random.default_rng(1)
    start, way = (space.check(rng.normal(size=space.dim)) for _ in range(2))
    x = torch.tensor(start, requires_grad=True)
    found = weights(x)
    ours, theirs = dict(space.tensors(start)), dict(space.tensors(start + way))
    assert found.keys() == ours.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.detach(), ours[name], atol=1e-4, rtol=1e-4)
    draws = torch.Generator().manual_seed(2)
    aims = {name: torch.randn(shape, generator=draws) for name, shape in SHAPES.items()}
    sum((found[name] * aim).sum() for name, aim in aims.items()).backward()
    slope = sum(float(((theirs[n] - ours[n]).double() * aim).sum()) for n, aim in aims.items())
    assert float(x.grad.double() @ torch.from_numpy(way).double()) == pytest.approx(slope, rel=1e-3)
    assert (x.grad != 0).all()
    assert (units > 0).all()


def test_regression_means_have_the_gradients_of_their_own_models(
    paper: str, tmp_path: Path
) -> None:
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("base", "a", "b", "c")}
    for seed, path in enumerate(paths.values()):
        save_file(net(seed).state_dict(), path)
    vectors = TaskVectors(paths.pop("base"), paths)
    space = RegMeanSpace(vectors, rank=2, ridge=0.02, examples=40, cache=tmp_path)
    space.calibrate(AtWork())
    weights, units = importlib.import_module(paper).differentiable(space)
    rng = np.random.default_rng(1)
    start = space.check(rng.uniform(0.2, 0.8, space.dim))
    way = space.check(rng.uniform(-1, 1, space.dim))
    draws = torch.Generator().manual_seed(2)
    aims = {name: torch.randn(vectors.shapes[name], generator=draws) for name in vectors.names}

    def value(x: np.ndarray) -> float:
        return sum(float((tensor * aims[name]).sum()) for name, tensor in space.tensors(x))

    x = torch.tensor(start, requires_grad=True)
    found = sum((tensor * aims[name]).sum() for name, tensor in weights(x).items())
    assert float(found) == pytest.approx(value(start), abs=1e-3)
    found.backward()
    step = np.float32(1e-2)
    slope = (value(start + step * way) - value(start - step * way)) / (2 * float(step))
    assert float(x.grad.double() @ torch.from_numpy(way).double()) == pytest.approx(slope, rel=1e-2)
    assert (units == 1).all()
