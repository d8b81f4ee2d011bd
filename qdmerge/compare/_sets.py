"""What the sets of models are worth that the runs found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from qdmerge.compare._data import RunRow, blocks_of
from qdmerge.compare._measured import Measured, estimated, median
from qdmerge.compare._paired import compare_pairs
from qdmerge.compare._pareto import Box, hypervolume, median_front, pareto_front

SET = "set"
"""Stands in place of a criterion where the whole set that a run found is compared."""


def sets(
    methods: Mapping[str, Sequence[RunRow]], reference: str, box: Box | None, seed: int
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Size, front and hypervolume of each method's sets, and hypervolume compared in pairs.

    Args:
        methods: Method to its runs.
        reference: The method that the others are compared with.
        box: Where hypervolume is measured; None for no hypervolume.
        seed: Seed of random sign flips.

    Returns:
        Method to ``points`` and ``front`` (sizes, medians over runs), ``fronts`` (per run the
        scores of what no other candidate dominates) and ``hypervolume`` (as :func:`estimated`
        tells it, or None), and the comparison as :func:`compare_pairs` tells it.
    """
    found: dict[str, dict[str, Any]] = {}
    values: dict[RunRow, float] = {}
    for name, runs in methods.items():
        known = {row: row.points for row in runs if row.points is not None}
        if not known:
            continue
        own_fronts = [
            {
                "block": row.block,
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
            found[name]["hypervolume"] = estimated(list(own), Measured(own, {}), [0, 1])
    if not values:
        return found, []
    compared = compare_pairs(methods, reference, Measured(values, {}), seed)
    return found, [{"criterion": SET, "measure": "hypervolume", **row} for row in compared]


def fronts(
    rows: Sequence[RunRow], methods: Mapping[str, Sequence[RunRow]], tasks: Sequence[str]
) -> list[dict[str, Any]]:
    """Median front over the runs of each method, for each block and pair of tasks."""
    found = []
    for block in blocks_of(rows):
        for pair in combinations(range(len(tasks)), 2):
            fronts = {}
            for name, runs in methods.items():
                sets = [
                    row.points[:, pair]
                    for row in runs
                    if row.block == block and row.points is not None and len(row.points)
                ]
                if sets:
                    fronts[name] = median_front(sets).tolist()
            found.append({"block": block, "tasks": [tasks[at] for at in pair], "methods": fronts})
    return found
