"""What several contracts use: a small space, score functions, the global random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from qdmerge.archives import ArchiveSpec, Axis
from qdmerge.guide import Slopes
from qdmerge.schedulers import Batch, TaskScheduler
from qdmerge.spaces import Space, VectorSpace

TASKS = ("coding", "db", "os")


def small_space() -> VectorSpace:
    """Return a bounded space of four coordinates with a base and three experts."""
    seeds = {"base": np.zeros(4)} | dict(zip(TASKS, np.eye(3, 4), strict=True))
    return VectorSpace(seeds, lower=-2, upper=2, experts=TASKS)


def archive_spec(space: Space, task: str = TASKS[0], seed: int = 0) -> ArchiveSpec:
    """Return the spec of one task's archive: an axis from 0 to 1 for each other task."""
    axes = tuple(Axis(other, 0.0, 1.0) for other in TASKS if other != task)
    return ArchiveSpec(task, axes, space.dim, space.dtype, 0.0, seed, len(TASKS))


def scores_of(x: np.ndarray) -> np.ndarray:
    """Return ``(n, 3)`` scores in (0, 1]: task k's is 1 where the first coordinates are e_k."""
    peaks = np.eye(len(TASKS))
    head = np.zeros((len(x), len(TASKS)))
    head[:, : x.shape[1]] = x[:, : len(TASKS)]
    return np.exp(-((head[:, None] - peaks) ** 2).mean(axis=2))


def slopes_of(x: np.ndarray) -> np.ndarray:
    """Return ``(n, 3, dim)`` gradients of :func:`scores_of`."""
    peaks = np.eye(len(TASKS), x.shape[1])
    used = np.arange(x.shape[1]) < len(TASKS)
    slopes: np.ndarray = scores_of(x)[:, :, None] * (-2 / len(TASKS)) * (x[:, None] - peaks) * used
    return slopes


def tell(scheduler: TaskScheduler, batch: Batch, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Tell a batch its scores, with the Jacobians where it asks for them."""
    if not any(isinstance(one, Slopes) for one in batch.errands):
        return scheduler.tell(batch, scores)
    return scheduler.tell(batch, scores, jacobians=slopes_of(batch.solutions))


def add(archive: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Offer solutions to an archive of the first task; return pyribs' add info."""
    scores = scores_of(x)
    return dict(archive.add(solution=x, objective=scores[:, 0], measures=scores[:, 1:]))


def content(archive: Any) -> list[tuple[bytes, float, tuple[float, ...]]]:
    """Return what an archive holds, sorted."""
    data = archive.data(["solution", "objective", "measures"])
    rows = zip(data["solution"], data["objective"], data["measures"], strict=True)
    return sorted((x.tobytes(), float(f), tuple(map(float, m))) for x, f, m in rows)


@contextmanager
def untouched_global_randomness() -> Iterator[None]:
    """Fail if numpy's global generator is used inside."""
    before: Any = np.random.get_state()  # noqa: NPY002
    yield
    after: Any = np.random.get_state()  # noqa: NPY002
    same = np.array_equal(before[1], after[1]) and before[2:] == after[2:]
    assert same, "numpy's global generator was used; draw from one that is seeded by the part"
