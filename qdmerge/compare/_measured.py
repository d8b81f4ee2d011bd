"""A number of every run, and its mean over the runs of a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdmerge.compare._data import RunRow
from qdmerge.compare._statistics import estimate


@dataclass(frozen=True, eq=False)
class Measured:
    """A number of every run, and the same under resampled test items.

    Args:
        values: Run to its value; runs without one are left out.
        replicates: Run to ``(R,)``; runs without items are left out.
        fewest_items: Number of items of the smallest task.
    """

    values: Mapping[RunRow, float]
    replicates: Mapping[RunRow, np.ndarray]
    fewest_items: int = 0


def estimated(
    runs: Sequence[RunRow], measured: Measured, ends: Sequence[float]
) -> dict[str, Any] | None:
    """Mean over runs with its interval, which is cut where no score can be; None without runs."""
    known = [row for row in runs if row in measured.values]
    if not known:
        return None
    replicates = None
    if all(row in measured.replicates for row in known):
        replicates = np.stack([measured.replicates[row] for row in known], axis=1)
    values = [measured.values[row] for row in known]
    blocks = [row.block for row in known]
    found = estimate(np.array(values), replicates, blocks, measured.fewest_items)
    ci95 = found.ci95 and [float(end) for end in np.clip(found.ci95, ends[0], ends[1])]
    return {"value": found.value, "ci95": ci95, "covers": found.covers, "runs": values}


def median(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return float(np.median(values)) if values else None
