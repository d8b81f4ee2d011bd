"""Archives and emitters to schedule, and scores for their solutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from ribs.archives import GridArchive
from ribs.emitters import EmitterBase, EvolutionStrategyEmitter, GaussianEmitter

DIM = 4
TASKS = ("a", "b", "c")


@dataclass
class Parts:
    """K archives with emitters; column k of :meth:`scores` belongs to task k."""

    tasks: tuple[str, ...]
    n_measures: int
    archives: dict[str, GridArchive]
    emitters: dict[str, list[EmitterBase]] = field(default_factory=dict)

    def scores(self, x: np.ndarray) -> np.ndarray:
        peaks = np.eye(len(self.tasks), DIM)
        return np.exp(-((x[:, None] - peaks) ** 2).sum(axis=2))

    def measures(self, x: np.ndarray) -> np.ndarray:
        return np.tanh(x[:, : self.n_measures])


def grid(axes: int, seed: int = 0, bins: int = 10) -> GridArchive:
    return GridArchive(solution_dim=DIM, dims=[bins] * axes, ranges=[(0, 1)] * axes, seed=seed)


MakeParts = Callable[..., Parts]


@pytest.fixture
def make_parts() -> MakeParts:
    def make(
        kinds: str = "g", tasks: tuple[str, ...] = TASKS, n_measures: int = 0, batch_size: int = 4
    ) -> Parts:
        """An emitter per letter of ``kinds``: g, Gaussian; e, evolution strategy."""
        archives = {
            task: grid(len(tasks) - 1 + n_measures, seed) for seed, task in enumerate(tasks)
        }
        parts = Parts(tasks, n_measures, archives)
        for task, archive in archives.items():
            options = {"x0": np.zeros(DIM), "batch_size": batch_size}
            parts.emitters[task] = [
                GaussianEmitter(archive, sigma=0.2, seed=seed, **options)
                if kind == "g"
                else EvolutionStrategyEmitter(archive, sigma0=0.2, seed=seed, **options)
                for seed, kind in enumerate(kinds)
            ]
        return parts

    return make
