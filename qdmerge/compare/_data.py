"""What a comparison is computed from: one row per run, and how scores become one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

MEASURES = ("mean", "geometric_mean", "minimum", "weights")
"""Ways to turn the scores on all tasks into one number; they also name the criteria of a choice."""


@dataclass(frozen=True, eq=False)
class Pick:
    """The model that a criterion chose among what a run found.

    Args:
        name: The candidate's name.
        solution: Its id.
        validation: Task to score on the split that the search saw.
        selection: Task to score on the split that chose.
        test: Task to score on the test split.
        items: Task to ``(n_items,)`` float64 test scores of single items, the same items for all
            runs of a block; None where the backend has none.
    """

    name: str
    solution: str
    validation: Mapping[str, float]
    selection: Mapping[str, float]
    test: Mapping[str, float]
    items: Mapping[str, np.ndarray | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RunRow:
    """One run of one method.

    Args:
        method: Name of the method.
        seed: Seed of the run; None for a method without randomness.
        block: Name of the test bed. Runs of the same block and seed are compared in pairs.
        status: Whether the run came to its end.
        cause: Why it failed.
        evaluations: Evaluations on validation that the run spent, tuning included.
        seconds: Time of its evaluations on all splits, summed over workers; an evaluation taken
            from another run counts with the time it took there.
        data: Stands for the items it was tested on; "" where the backend does not tell.
        training: What training cost, by name, for a method that trains; else None.
        picks: Criterion (see `MEASURES`) to what it chose.
        dropped: Name to cause of the candidates that could not be evaluated after the search; what
            was picked was picked without them.
        points: ``(n, K)`` scores of the run's candidates on the selection split.
        evaluated: ``(K,)`` validation scores of every child in the order of the search; None
            where the evaluation failed.
        seeds: ``(s, K)`` validation scores of base and experts.
        incumbents: The successive best by validation: evaluations so far, and its ``(K,)`` scores
            on the selection split.
    """

    method: str
    seed: int | None
    block: str
    status: Literal["ok", "failed"] = "ok"
    cause: str = ""
    evaluations: int = 0
    seconds: float = 0.0
    data: str = ""
    training: Mapping[str, float] | None = None
    picks: Mapping[str, Pick] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    points: np.ndarray | None = None
    evaluated: Sequence[np.ndarray | None] = ()
    seeds: np.ndarray | None = None
    incumbents: Sequence[tuple[int, np.ndarray]] = ()


def over_tasks(
    measure: str, scores: np.ndarray, weights: Sequence[float] | None = None
) -> np.ndarray:
    """One number from the scores on all tasks.

    Args:
        measure: One of `MEASURES`.
        scores: ``(..., K)``.
        weights: ``(K,)``, for ``weights``, the weighted mean.

    Returns:
        ``(...)``. A geometric mean is 0 where a score is 0 or less.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if measure == "mean":
        return scores.mean(axis=-1)
    if measure == "minimum":
        return scores.min(axis=-1)
    if measure == "weights":
        return np.average(scores, axis=-1, weights=weights)
    positive = (scores > 0).all(axis=-1, keepdims=True)
    logs = np.log(scores, out=np.full_like(scores, -np.inf), where=positive)
    return np.exp(logs.mean(axis=-1))


def methods_of(rows: Sequence[RunRow]) -> dict[str, list[RunRow]]:
    """Method to its runs that came to their end, in the order of first appearance."""
    found: dict[str, list[RunRow]] = {row.method: [] for row in rows}
    for row in rows:
        if row.status == "ok":
            found[row.method].append(row)
    return found


def blocks_of(rows: Sequence[RunRow]) -> list[str]:
    """Names of the blocks in the order of first appearance."""
    return list(dict.fromkeys(row.block for row in rows))
