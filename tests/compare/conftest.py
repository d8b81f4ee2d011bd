"""Search baselines on their own, and in a search with the first task always active."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ribs.archives import GridArchive

from qdmerge.emitters import EmitterSpec
from qdmerge.schedulers import FixedScheduler
from qdmerge.search import CycleQD
from qdmerge.spaces import Space


class Points(Space):
    name = "points"


class Told:
    """An emitter outside of any search, on experts at the unit vectors and a base at the origin."""

    def __init__(
        self,
        kind: Any,
        *,
        dim: int = 4,
        tasks: int = 3,
        seed: int = 1,
        dtype: type = np.float64,
        lower: float = -np.inf,
        upper: float = np.inf,
        **options: Any,
    ) -> None:
        names = [f"expert{k}" for k in range(min(3, dim))]
        seeds = {"base": np.zeros(dim)} | dict(zip(names, np.eye(len(names), dim), strict=True))
        self.space = Points(seeds=seeds, lower=lower, upper=upper, experts=names, dtype=dtype)
        archive = GridArchive(
            solution_dim=dim, dims=[5, 5], ranges=[(0, 1)] * 2, solution_dtype=dtype
        )
        spec = EmitterSpec("task0", "expert0", self.space, tasks - 1, seed)
        self.emitter = kind(archive, spec, **options)
        self.tasks = tasks

    def ask(self) -> np.ndarray:
        return self.emitter.ask()

    def tell(self, x: np.ndarray, scores: np.ndarray, **more: Any) -> None:
        """As a scheduler would: two measures, of which the first are scores."""
        measures = np.column_stack([scores[:, 1:], np.full((len(x), 3 - self.tasks), 99.0)])
        status = {"status": np.ones(len(x), np.int32), "value": scores[:, 0]}
        self.emitter.tell(
            solution=x, objective=scores[:, 0], measures=measures, add_info=status, **more
        )

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Smooth bumps near the experts."""
        peaks = np.eye(self.tasks, self.space.dim)
        return np.exp(-0.5 * ((x[:, None] - peaks) ** 2).sum(axis=2))

    def evolve(self, generations: int) -> list[np.ndarray]:
        """The solutions of some generations."""
        asked = []
        for _ in range(generations):
            asked.append(self.ask())
            self.tell(asked[-1], self.scores(asked[-1]))
        return asked


@pytest.fixture
def told() -> type[Told]:
    return Told


@pytest.fixture
def searched(toy: Callable[..., Any]) -> Callable[..., tuple[CycleQD, np.ndarray, np.ndarray]]:
    """Runs a baseline on the toy backend: the search, all children, and their scores."""

    def run(factory: Any, evaluations: int = 150, **options: Any) -> Any:
        backend = toy(**options)
        search = CycleQD(backend, emitters=[factory], scheduler=FixedScheduler, seed=3)
        asked, scores, n = [], [], 0
        while n < evaluations:
            batch = search.ask()
            evaluation = backend.evaluate(batch.solutions, "validation")
            search.tell(batch, evaluation)
            if batch.task is not None:
                asked.append(batch.solutions)
                scores.append(evaluation.scores)
                n += len(batch)
        return search, np.concatenate(asked), np.concatenate(scores)

    return run
