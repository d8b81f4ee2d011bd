"""The ceiling of a space: the climb to it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qdmerge.spaces import WeightSpace
from tests.trios import Trio, make_space, make_trio, trio

__all__ = ["make_space", "make_trio", "trio"]  # fixtures

PAPER = Path(__file__).parents[2] / "examples" / "paper"


@pytest.mark.parametrize("kind", ["layer", "spectral", "core"])
def test_a_climb_ends_near_the_model_that_is_best(
    kind: str, trio: Trio, make_space: Callable[..., WeightSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PAPER))
    ceiling = importlib.import_module("ceiling")
    space, best = make_space(kind, trio.vectors()), trio.experts["db"]
    module = torch.nn.Module()
    for name in ("embed", "layers.0.attn", "layers.0.norm", "layers.1.conv", "layers.1", "head"):
        *path, leaf = name.split(".")
        owner = module
        for part in path:
            owner = owner._modules.setdefault(part, torch.nn.Module())
        owner._modules.setdefault(leaf, torch.nn.Module())
    for name, tensor in best.items():
        owner, _, leaf = name.rpartition(".")
        keep = torch.nn.Parameter(tensor.clone()) if tensor.is_floating_point() else tensor.clone()
        place = module.get_submodule(owner)
        if isinstance(keep, torch.nn.Parameter):
            place.register_parameter(leaf, keep)
        else:
            place.register_buffer(leaf, keep)

    def distance(step: int = 0) -> torch.Tensor:
        pairs = ((weight, best[name]) for name, weight in module.named_parameters())
        return sum((weight - aim).square().sum() for weight, aim in pairs)

    def evaluate(xs: np.ndarray, split: str) -> SimpleNamespace:
        space.express(xs[0], module)
        return SimpleNamespace(scores=-distance().detach().reshape(1, 1).numpy())

    monkeypatch.setattr(ceiling, "objective_of", lambda *_: (module, distance))
    backend = SimpleNamespace(space=space, evaluate=evaluate)
    start = space.merge([0.3] * 3)
    found, note = ceiling.climb(None, backend, start, 60, 4, 0.1, 0)
    assert found[0] > 0.01 * ceiling.scores(backend, start)[0]
    assert note.startswith(("step 60", "step 54", "step 48"))
