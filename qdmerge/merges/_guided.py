"""Climbs along the guide's gradients, as what a search starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from qdmerge.criteria import over_tasks
from qdmerge.errors import EvaluationError
from qdmerge.guide import Climb
from qdmerge.merges._grid import Axes, Regressing, grid, recipe_solutions

if TYPE_CHECKING:
    from qdmerge.backend import Evaluation, Task
    from qdmerge.search import Start
    from qdmerge.spaces import Space

UNIFORM = (0.2, 0.3, 0.4, 0.5, 0.6)
"""Weights that all experts share in the uniform merges that a climb may start from."""


def guided_start(
    space: Space,
    tasks: Sequence[Task],
    *,
    scales: Sequence[float] | None = None,
    steps: int = 200,
    every: int = 50,
    rate: float = 0.1,
    batch: int = 24,
    branch_steps: int = 50,
    branch_rate: float = 0.05,
    focus: float = 0.8,
    seed: int = 0,
) -> Start:
    """Start a search with climbs from the best uniform merge.

    Args:
        space: Space of the models.
        tasks: The tasks.
        scales: See :class:`qdmerge.settings.GuidedStart`, like all that follow.
        steps: Steps of the climb with all tasks alike.
        every: Steps after which it is scored.
        rate: Its first rate.
        batch: Items of a step.
        branch_steps: Steps of each climb towards one task; 0 for none.
        branch_rate: Their first rate.
        focus: Share of that task in their loss.
        seed: Decides the items of the steps.

    Yields:
        Solutions with their climbs; see :data:`qdmerge.search.Start`.

    Raises:
        EvaluationError: All uniform merges, or all points of a climb, failed.
    """
    k = len(tasks)
    criterion = "geometric_mean" if all(task.range[0] >= 0 for task in tasks) else "mean"

    def best(told: Evaluation, what: str) -> np.ndarray:
        assert told.solutions is not None
        values = over_tasks(criterion, told.scores)
        if np.isnan(values).all():
            raise EvaluationError(f"all {what} that the search starts from failed")
        x: np.ndarray = told.solutions[np.nanargmax(values)]
        return x

    merges = _uniform(space, scales)
    told = yield merges, ()
    x = best(told, "uniform merges")
    stops = [*range(every, steps, every), steps]
    even = (1 / k,) * k
    told = yield (
        np.repeat(x[None], len(stops), axis=0),
        [Climb(even, stop, rate, batch, seed, total=steps) for stop in stops],
    )
    x = best(told, "points of the climb")
    if not branch_steps:
        return
    shares = focus * np.eye(k) + (1 - focus) / k
    told = yield (
        np.repeat(x[None], k, axis=0),
        [Climb(tuple(row), branch_steps, branch_rate, batch, seed + 1) for row in shares.tolist()],
    )
    assert told.solutions is not None
    ends = told.solutions[np.isfinite(told.scores).all(axis=1)]
    if len(ends):
        yield ((x + ends) / 2).astype(space.dtype), ()


def _uniform(space: Space, scales: Sequence[float] | None) -> np.ndarray:
    """Return merges in which all experts count alike, ``(n, dim)``; the seeds without experts."""
    count = len(space.experts)
    if not count:
        return np.stack(list(space.seeds.values()))
    if isinstance(space, Regressing):
        return recipe_solutions("regmean", space, grid("regmean", count, Axes(scales=scales)))
    axes = Axes(scales=scales or (1 / count, *UNIFORM))
    return recipe_solutions("task_arithmetic", space, grid("task_arithmetic", count, axes))
