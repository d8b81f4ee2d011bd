"""Convergence: how good the best model so far is, over evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdmerge.compare._rows import RunRow, list_test_beds
from qdmerge.criteria import over_tasks

_POINTS = 61


@dataclass(frozen=True, eq=False)
class Curve:
    """A step function: its value is ``values[i]`` from ``evaluations[i]`` evaluations on."""

    evaluations: np.ndarray
    values: np.ndarray

    def at(self, grid: np.ndarray) -> np.ndarray:
        """Return the values after ``grid`` evaluations; NaN before the first step."""
        step = np.searchsorted(self.evaluations, grid, side="right") - 1
        return np.where(step >= 0, np.append(self.values, np.nan)[step], np.nan)

    def first(self, level: float) -> int | None:
        """Return the evaluations after which a level is first reached; None if never."""
        reached = np.flatnonzero(self.values >= level)
        return int(self.evaluations[reached[0]]) if len(reached) else None


@dataclass(frozen=True, eq=False)
class Band:
    """Median and quartiles over runs after ``evaluations`` evaluations; arrays of one length."""

    evaluations: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def validation_curve(row: RunRow, criterion: str, weights: Sequence[float] | None = None) -> Curve:
    """Return the highest value so far on validation, which the search saw: it flatters. The curve
    starts with base and experts at 0 evaluations; failed evaluations do not change it.
    """
    best = -np.inf
    curve = []
    if row.seeds is not None and len(row.seeds):
        best = float(over_tasks(criterion, row.seeds, weights).max())
        curve.append((0, best))
    for number, scores in enumerate(row.evaluated, start=1):
        value = -np.inf if scores is None else float(over_tasks(criterion, scores, weights))
        if value > best:
            best = value
            curve.append((number, value))
    return _curve(curve)


def held_out_curve(row: RunRow, criterion: str, weights: Sequence[float] | None = None) -> Curve:
    """Return the selection score of the best model by validation so far; it may fall."""
    return _curve(
        [(at, float(over_tasks(criterion, scores, weights))) for at, scores in row.incumbents]
    )


def band(curves: Sequence[Curve], end: int) -> Band:
    """Return median and quartiles over runs on one grid, from where every run has a value to
    ``end``. Empty curves are ignored; a run that ended early keeps its last value.
    """
    known = [curve for curve in curves if len(curve.evaluations)]
    if not known:
        return Band(*(np.empty(0),) * 4)
    steps = np.unique(np.concatenate([*(curve.evaluations for curve in known), [end]]))
    steps = steps[steps >= max(curve.evaluations[0] for curve in known)]
    if len(steps) > _POINTS:
        steps = np.unique(np.linspace(steps[0], steps[-1], _POINTS).round().astype(int))
    values = np.stack([curve.at(steps) for curve in known])
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    return Band(steps, median, low, high)


def median_count(counts: Sequence[int | None]) -> float | None:
    """Return the median of counts, where None (never) exceeds any number; None for never."""
    if not counts:
        return None
    median = float(np.median([np.inf if count is None else count for count in counts]))
    return median if np.isfinite(median) else None


def _curve(points: Sequence[tuple[int, float]]) -> Curve:
    steps = dict(points).items()  # the last of several after equally many evaluations holds
    return Curve(np.array([at for at, _ in steps], dtype=int), np.array([v for _, v in steps]))


def curves(
    rows: Sequence[RunRow],
    methods: Mapping[str, Sequence[RunRow]],
    criteria: Sequence[str],
    weights: Sequence[float],
) -> list[dict[str, Any]]:
    """Return best-so-far curves of each test bed, method and criterion, as plain data."""
    found = []
    for test_bed in list_test_beds(rows):
        for name, runs in methods.items():
            own = [row for row in runs if row.test_bed == test_bed]
            end = max((row.evaluations for row in own), default=0)
            for criterion in criteria if own else ():
                validation = band([validation_curve(row, criterion, weights) for row in own], end)
                held_out = band([held_out_curve(row, criterion, weights) for row in own], end)
                found.append(
                    {
                        "block": test_bed,
                        "method": name,
                        "measure": criterion,
                        "runs": len(own),
                        "validation": _plain(validation),
                        "held_out": _plain(held_out),
                    }
                )
    return found


def _plain(curve: Band) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in vars(curve).items()}


def reach(
    methods: Mapping[str, Sequence[RunRow]], choose_by: str, weights: Sequence[float]
) -> list[dict[str, Any]]:
    """Return the evaluations that each method needs to reach each other method's final level, which
    is the median over the other's runs on the same test bed, on the selection split.
    """
    curves = {
        name: [(row, held_out_curve(row, choose_by, weights)) for row in runs if row.incumbents]
        for name, runs in methods.items()
    }
    levels = {}
    for target, runs in curves.items():
        finals: dict[str, list[float]] = {}
        for row, curve in runs:
            finals.setdefault(row.test_bed, []).append(float(curve.values[-1]))
        levels[target] = {test_bed: float(np.median(values)) for test_bed, values in finals.items()}
    found = []
    for target, level in levels.items():
        for name, runs in curves.items():
            counts = [
                curve.first(level[row.test_bed]) for row, curve in runs if row.test_bed in level
            ]
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
