"""Climbs along the guide's gradients, as what a search starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from qdmerge.criteria import over_tasks
from qdmerge.errors import EvaluationError
from qdmerge.guide import Climb, Plane, PlaneClimb, Start, spread_weights
from qdmerge.merges._grid import Axes, Recipe, Regressing, grid, recipe_solutions

if TYPE_CHECKING:
    from qdmerge.backend import Evaluation, Task
    from qdmerge.spaces import Objective, Space

UNIFORM = (0.2, 0.3, 0.4, 0.5, 0.6)
"""Weights that all experts share in the uniform merges that a climb may start from."""


def guided_start(
    space: Space,
    tasks: Sequence[Task],
    *,
    scales: Sequence[float] | None = None,
    steps: int = 600,
    every: int = 200,
    rate: float = 0.1,
    batch: int = 24,
    branch_steps: int = 60,
    branch_rate: float = 0.05,
    focus: float = 0.8,
    objective: Objective = "agreement",
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
        objective: What the climbs lower.
        seed: Decides the items of the steps.

    Yields:
        Solutions with their climbs, a ``qdmerge.guide.Start``.

    Raises:
        EvaluationError: All uniform merges, or all points of a climb, failed.
    """
    k = len(tasks)
    told = yield _uniform(space, scales), ()
    x = _best(told, tasks, "uniform merges")
    stops = [*range(every, steps, every), steps]
    even = (1 / k,) * k
    told = yield (
        np.repeat(x[None], len(stops), axis=0),
        [Climb(even, stop, rate, batch, seed, steps, objective=objective) for stop in stops],
    )
    x = _best(told, tasks, "points of the climb")
    if not branch_steps:
        return
    shares = (focus * np.eye(k) + (1 - focus) / k).tolist()
    ahead = Climb(even, branch_steps, branch_rate, batch, seed + 1, objective=objective)
    branches = [replace(ahead, shares=tuple(row)) for row in shares]
    told = yield np.repeat(x[None], k, axis=0), branches
    assert told.solutions is not None
    ends = told.solutions[np.isfinite(told.scores).all(axis=1)]
    if len(ends):
        yield ((x + ends) / 2).astype(space.dtype), ()


def plane_start(
    space: Space,
    tasks: Sequence[Task],
    *,
    scales: Sequence[float] | None = None,
    steps: int = 480,
    rate: float = 0.1,
    batch: int = 24,
    concentration: float = 0.7,
    samples: int = 10,
    seed: int = 0,
) -> Start:
    """Start a search with a plane that is learned from the best uniform merge.

    Without a plane, as its climb or its middle failed, the search starts from the merges alone.

    Args:
        space: Space of the models.
        tasks: The tasks.
        scales: See :class:`qdmerge.settings.PlaneStart`, like all that follow.
        steps: Steps of the climb.
        rate: Its first rate.
        batch: Items of a step.
        concentration: Of the distribution that the weights of a step are drawn from.
        samples: Points of the plane that are scored.
        seed: Decides items and weights.

    Yields:
        Solutions with their errands, a ``qdmerge.guide.Start``.

    Raises:
        EvaluationError: All uniform merges failed.
    """
    told = yield _uniform(space, scales), ()
    x = _best(told, tasks, "uniform merges")
    told = yield x[None], [PlaneClimb(steps, rate, batch, concentration, seed)]
    if told.planes is None:
        return
    plane = Plane(space, told.planes[0])
    _, *more = spread_weights(len(tasks), samples, seed)  # the middle is what was scored
    if more:
        yield np.stack([plane.at(weights) for weights in more]), ()


def _best(told: Evaluation, tasks: Sequence[Task], what: str) -> np.ndarray:
    """Return the solution with the best geometric mean, or mean where scores can be negative."""
    criterion = "geometric_mean" if all(task.range[0] >= 0 for task in tasks) else "mean"
    assert told.solutions is not None
    values = over_tasks(criterion, told.scores)
    if np.isnan(values).all():
        raise EvaluationError(f"all {what} that the search starts from failed")
    x: np.ndarray = told.solutions[np.nanargmax(values)]
    return x


def uniform_rows(
    n_experts: int, scales: Sequence[float] | None = None, regressing: bool = False
) -> np.ndarray:
    """Return the merges that climbs may start from: all experts count alike in each.

    Args:
        n_experts: Number of experts.
        scales: The experts' weight, or of regression means the sum of their weights; None for the
            values that are tried by default.
        regressing: Whether they are regression means.

    Returns:
        Rows of the grid of ``regmean``, or else of ``task_arithmetic``; see :func:`grid`.
    """
    if regressing:
        return grid("regmean", n_experts, Axes(scales=scales))
    axes = Axes(scales=scales or (1 / max(1, n_experts), *UNIFORM))
    return grid("task_arithmetic", n_experts, axes)


def _uniform(space: Space, scales: Sequence[float] | None) -> np.ndarray:
    """Return merges in which all experts count alike, ``(n, dim)``; the seeds without experts."""
    count, regressing = len(space.experts), isinstance(space, Regressing)
    if not count:
        return np.stack(list(space.seeds.values()))
    recipe: Recipe = "regmean" if regressing else "task_arithmetic"
    return recipe_solutions(recipe, space, uniform_rows(count, scales, regressing))
