"""The course of the searches: best-so-far curves, and evaluations needed to reach a level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdmerge.compare._curves import (
    Band,
    band,
    held_out_curve,
    median_count,
    validation_curve,
)
from qdmerge.compare._data import RunRow, blocks_of


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
