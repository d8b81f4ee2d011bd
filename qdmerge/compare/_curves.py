"""How good the best model is after so many evaluations, and when a level is reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdmerge.compare._data import RunRow, over_tasks

_POINTS = 61


@dataclass(frozen=True, eq=False)
class Curve:
    """A step function: ``values[i]`` holds from ``evaluations[i]`` evaluations on.

    Args:
        evaluations: ``(n,)`` rising integers.
        values: ``(n,)``.
    """

    evaluations: np.ndarray
    values: np.ndarray

    def at(self, grid: np.ndarray) -> np.ndarray:
        """Values after ``grid`` evaluations; NaN before the first step."""
        step = np.searchsorted(self.evaluations, grid, side="right") - 1
        return np.where(step >= 0, np.append(self.values, np.nan)[step], np.nan)

    def first(self, level: float) -> int | None:
        """After how many evaluations the level is reached first; None if never."""
        reached = np.flatnonzero(self.values >= level)
        return int(self.evaluations[reached[0]]) if len(reached) else None


@dataclass(frozen=True, eq=False)
class Band:
    """Median and quartiles over runs, after ``evaluations`` evaluations; arrays of one length."""

    evaluations: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def validation_curve(row: RunRow, measure: str, weights: Sequence[float] | None = None) -> Curve:
    """The highest value so far on validation, which the search saw and which flatters.

    Starts with base and experts at 0 evaluations; a failed evaluation changes nothing.

    Args:
        row: The run.
        measure: How scores become one number; see :func:`over_tasks`.
        weights: For ``weights``.
    """
    best = -np.inf
    curve = []
    if row.seeds is not None and len(row.seeds):
        best = float(over_tasks(measure, row.seeds, weights).max())
        curve.append((0, best))
    for number, scores in enumerate(row.evaluated, start=1):
        value = -np.inf if scores is None else float(over_tasks(measure, scores, weights))
        if value > best:
            best = value
            curve.append((number, value))
    return _curve(curve)


def held_out_curve(row: RunRow, measure: str, weights: Sequence[float] | None = None) -> Curve:
    """The value on the selection split of what was best on validation so far; it may fall.

    Args:
        row: The run.
        measure: How scores become one number; see :func:`over_tasks`.
        weights: For ``weights``.
    """
    return _curve(
        [(at, float(over_tasks(measure, scores, weights))) for at, scores in row.incumbents]
    )


def band(curves: Sequence[Curve], end: int) -> Band:
    """Median and quartiles of several runs on a common grid.

    A run that ended early keeps its last value. The grid begins where every run has a value.

    Args:
        curves: One per run; those without steps are left out.
        end: The last point of the grid.
    """
    told = [curve for curve in curves if len(curve.evaluations)]
    if not told:
        return Band(*(np.empty(0),) * 4)
    steps = np.unique(np.concatenate([*(curve.evaluations for curve in told), [end]]))
    steps = steps[steps >= max(curve.evaluations[0] for curve in told)]
    if len(steps) > _POINTS:
        steps = np.unique(np.linspace(steps[0], steps[-1], _POINTS).round().astype(int))
    values = np.stack([curve.at(steps) for curve in told])
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    return Band(steps, median, low, high)


def median_count(counts: Sequence[int | None]) -> float | None:
    """Median number of evaluations, where None, never, is more than any number.

    Returns:
        None where half of the runs or more never got there.
    """
    if not counts:
        return None
    median = float(np.median([np.inf if count is None else count for count in counts]))
    return median if np.isfinite(median) else None


def _curve(told: Sequence[tuple[int, float]]) -> Curve:
    steps = dict(told).items()  # of several after as many evaluations, the last one holds
    return Curve(np.array([at for at, _ in steps], dtype=int), np.array([v for _, v in steps]))
