"""Pareto fronts, hypervolumes, and the sets of models that runs end with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import ModuleType
from typing import Any

import numpy as np

from qdmerge.backend import Task
from qdmerge.compare._rows import RunRow, list_test_beds
from qdmerge.compare._statistics import RunValues, compare_pairs, estimated, median
from qdmerge.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Box:
    """The part of score space in which hypervolume is measured; its ends are ``(K,)``."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> Box | None:
        """Return the box between the ends of the tasks' ranges; None if one is not finite."""
        low, high = np.array([task.range for task in tasks], dtype=np.float64).T
        return cls(low, high) if np.isfinite([low, high]).all() else None


def hypervolume(points: np.ndarray, box: Box) -> float:
    """Return the share of the box, in [0, 1], that ``(n, K)`` points dominate, clipped to the box.
    Exact (Fonseca, Paquete & Lopez-Ibanez 2006, CEC), in milliseconds for hundreds of points.
    """
    if not len(points):
        return 0.0
    inside = np.clip((np.asarray(points) - box.low) / (box.high - box.low), 0, 1)
    return float(_moocore().hypervolume(inside, ref=np.zeros(len(box.low)), maximise=True))


def pareto_front(points: np.ndarray) -> np.ndarray:
    """Return the indices of the ``(n, K)`` points that no other dominates, the first of equals."""
    points = np.asarray(points, dtype=np.float64)
    if not len(points):
        return np.empty(0, dtype=np.intp)
    return np.flatnonzero(_moocore().is_nondominated(points, maximise=True))


def median_front(sets: Sequence[np.ndarray]) -> np.ndarray:
    """Return the ``(m, 2)`` front that at least half of the sets reach, by rising first score: the
    median attainment surface (Grunert da Fonseca, Fonseca & Hall 2001, EMO). Empty sets count.
    """
    filled = [np.asarray(one, dtype=np.float64) for one in sets if len(one)]
    if 2 * len(filled) < len(sets) or not filled:
        return np.empty((0, 2))
    labels = np.repeat(np.arange(len(filled)), [len(one) for one in filled])
    percentile = 100 * -(-len(sets) // 2) / len(filled)  # of the non-empty ones
    surface = _moocore().eaf(-np.concatenate(filled), labels, percentiles=[percentile])
    front = -surface[:, :2]
    return front[np.lexsort((front[:, 1], front[:, 0]))]


def _moocore() -> ModuleType:
    try:
        import moocore
    except ImportError as error:
        raise ConfigError(
            "hypervolume and Pareto fronts need moocore: pip install 'qdmerge[compare]'"
        ) from error
    return moocore


SET = "set"
"""In place of a criterion: the whole set of a run is compared."""


def sets(
    methods: Mapping[str, Sequence[RunRow]], reference: str, box: Box | None, seed: int
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Summarize each method's sets as ``compare.json`` holds them, and compare their hypervolumes
    in pairs. Without a box there are no hypervolumes. The seed is that of random sign flips.
    """
    found: dict[str, dict[str, Any]] = {}
    values: dict[RunRow, float] = {}
    for name, runs in methods.items():
        known = {row: row.points for row in runs if row.points is not None}
        if not known:
            continue
        own_fronts = [
            {
                "block": row.test_bed,
                "seed": row.seed,
                "points": points[pareto_front(points)].tolist(),
            }
            for row, points in known.items()
        ]
        found[name] = {
            "points": median([len(points) for points in known.values()]),
            "front": median([len(run["points"]) for run in own_fronts]),
            "fronts": own_fronts,
            "hypervolume": None,
        }
        if box is not None:
            own = {row: hypervolume(points, box) for row, points in known.items()}
            values |= own
            found[name]["hypervolume"] = estimated(list(own), RunValues(own), [0, 1])
    if not values:
        return found, []
    compared = compare_pairs(methods, reference, RunValues(values), seed)
    return found, [{"criterion": SET, "measure": "hypervolume", **row} for row in compared]


def fronts(
    rows: Sequence[RunRow], methods: Mapping[str, Sequence[RunRow]], tasks: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the median front over each method's runs, per test bed and pair of tasks."""
    found = []
    for test_bed in list_test_beds(rows):
        for pair in combinations(range(len(tasks)), 2):
            fronts = {}
            for name, runs in methods.items():
                sets = [
                    row.points[:, pair]
                    for row in runs
                    if row.test_bed == test_bed and row.points is not None and len(row.points)
                ]
                if sets:
                    fronts[name] = median_front(sets).tolist()
            found.append(
                {"block": test_bed, "tasks": [tasks[at] for at in pair], "methods": fronts}
            )
    return found
