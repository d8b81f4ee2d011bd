"""How good the best model so far is, over evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdmerge.compare._rows import RunRow, blocks_of
from qdmerge.criteria import over_tasks

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
        measure: How scores become one number; see :func:`~qdmerge.criteria.over_tasks`.
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
        measure: How scores become one number; see :func:`~qdmerge.criteria.over_tasks`.
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


def curves(
    rows: Sequence[RunRow],
    methods: Mapping[str, Sequence[RunRow]],
    ways: Sequence[str],
    weights: Sequence[float],
) -> list[dict[str, Any]]:
    """Best-so-far curves of each block, method and measure."""
    found = []
    for block in blocks_of(rows):
        for name, runs in methods.items():
            own = [row for row in runs if row.block == block]
            end = max((row.evaluations for row in own), default=0)
            for way in ways if own else ():
                validation = band([validation_curve(row, way, weights) for row in own], end)
                held_out = band([held_out_curve(row, way, weights) for row in own], end)
                found.append(
                    {
                        "block": block,
                        "method": name,
                        "measure": way,
                        "runs": len(own),
                        "validation": _plain(validation),
                        "held_out": _plain(held_out),
                    }
                )
    return found


def _plain(curve: Band) -> dict[str, list[float]]:
    return {
        "evaluations": [int(at) for at in curve.evaluations],
        "median": [float(value) for value in curve.median],
        "low": [float(value) for value in curve.low],
        "high": [float(value) for value in curve.high],
    }


def reach(
    methods: Mapping[str, Sequence[RunRow]], choose_by: str, weights: Sequence[float]
) -> list[dict[str, Any]]:
    """How many evaluations each method needs to reach each method's final level, held out.

    The level is the median over the runs of the method in the same block.
    """
    curves = {
        name: [(row, held_out_curve(row, choose_by, weights)) for row in runs if row.incumbents]
        for name, runs in methods.items()
    }
    levels = {}
    for target, runs in curves.items():
        finals: dict[str, list[float]] = {}
        for row, curve in runs:
            finals.setdefault(row.block, []).append(float(curve.values[-1]))
        levels[target] = {block: float(np.median(values)) for block, values in finals.items()}
    found = []
    for target, level in levels.items():
        for name, runs in curves.items():
            counts = [curve.first(level[row.block]) for row, curve in runs if row.block in level]
            if name != target and counts:
                found.append(
                    {
                        "method": name,
                        "target": target,
                        "level": level,
                        "median": median_count(counts),
                        "reached": sum(count is not None for count in counts),
                        "runs": len(counts),
                        "evaluations": counts,
                    }
                )
    return found
