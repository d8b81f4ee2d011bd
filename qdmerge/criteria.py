"""Criteria: one number from the scores on K tasks; higher is better."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from qdmerge.errors import ConfigError

CriterionName = Literal["geometric_mean", "mean", "minimum", "weights"]
"""Name of a criterion; "weights" is the mean with the user's weights."""

CRITERIA: Mapping[str, str] = {
    "mean": "mean",
    "geometric_mean": "geometric mean",
    "minimum": "minimum",
    "weights": "weighted mean",
}
"""Name of every criterion to what tables call it."""


def over_tasks(
    criterion: str, scores: np.ndarray, weights: Sequence[float] | None = None
) -> np.ndarray:
    """Return one number per model.

    Args:
        criterion: One of :data:`CRITERIA`.
        scores: ``(..., K)``.
        weights: ``(K,)`` of the tasks, for "weights"; their sum must not be 0.

    Returns:
        ``(...)`` float64. A geometric mean is 0 where a score is 0 or less.

    Raises:
        ValueError: Unknown criterion.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if criterion == "mean":
        return scores.mean(axis=-1)
    if criterion == "minimum":
        return scores.min(axis=-1)
    if criterion == "weights":
        return np.average(scores, axis=-1, weights=weights)
    if criterion != "geometric_mean":
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}; got {criterion!r}")
    positive = (scores > 0).all(axis=-1, keepdims=True)
    logs = np.log(scores, out=np.full_like(scores, -np.inf), where=positive)
    return np.exp(logs.mean(axis=-1))


def geometric_mean(scores: Sequence[float]) -> float:
    """Return the geometric mean of one model's scores, exactly rounded; 0 if one is 0 or less."""
    return statistics.geometric_mean(scores) if min(scores) > 0 else 0.0


class Criterion:
    """A criterion for models that are scored on given tasks.

    Args:
        name: The criterion. A mean can be bought by giving one task up, a geometric mean cannot.
        ranges: Task name to the lowest and highest value of its metric, in the order of scores.
        weights: Task name to weight, for "weights"; 0 for tasks that are missing.

    Raises:
        ConfigError: Weights of unknown tasks or without a positive one, or a geometric mean of
            scores that may be negative.
    """

    def __init__(
        self,
        name: CriterionName,
        ranges: Mapping[str, tuple[float, float]],
        weights: Mapping[str, float] | None = None,
    ) -> None:
        weights = weights or {}
        self.name = name
        if unknown := sorted(set(weights) - set(ranges)):
            raise ConfigError(
                f"final.weights: unknown tasks {', '.join(unknown)}; tasks: {', '.join(ranges)}"
            )
        negative = [task for task, (low, _) in ranges.items() if low < 0]
        if name == "geometric_mean" and negative:
            raise ConfigError(
                f"the geometric mean needs scores of at least 0, but {', '.join(negative)} can be "
                "negative; set final.choose_by to mean, minimum or weights"
            )
        self._weights = [weights.get(task, 0.0) for task in ranges]
        if name == "weights" and not sum(self._weights):
            raise ConfigError("final.weights: at least one weight must be positive")

    def __call__(self, scores: Mapping[str, float]) -> float:
        """Return the value of a model's scores by task name, in the order of the tasks."""
        values = list(scores.values())
        if self.name == "geometric_mean":
            return geometric_mean(values)
        return float(over_tasks(self.name, np.array(values), self._weights))


def fitting_criteria(
    first: CriterionName,
    ranges: Mapping[str, tuple[float, float]],
    weights: Mapping[str, float] | None = None,
) -> dict[CriterionName, Criterion]:
    """Return every criterion that fits the tasks, by name.

    Args:
        first: The criterion that comes first.
        ranges: See :class:`Criterion`.
        weights: See :class:`Criterion`; "weights" is left out without any.

    Raises:
        ConfigError: ``first`` does not fit.
    """
    names: list[CriterionName] = [first, "mean", "minimum"]
    if all(low >= 0 for low, _ in ranges.values()):
        names.append("geometric_mean")
    if weights:
        names.append("weights")
    return {name: Criterion(name, ranges, weights) for name in dict.fromkeys(names)}
