"""How one model is chosen from scores on several tasks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from qdmerge.backend import Task
from qdmerge.errors import ConfigError
from qdmerge.settings import Criterion, FinalConfig


class Choice:
    """A criterion over the scores of all tasks; higher is better.

    The geometric mean is the default, since a mean can be bought by giving one task up.

    Args:
        settings: Which criterion, and the user's weights.
        tasks: The tasks.
        by: Another criterion than the one of the settings.

    Raises:
        ConfigError: Weights of unknown tasks, or a geometric mean of scores that may be negative.
    """

    def __init__(
        self, settings: FinalConfig, tasks: Sequence[Task], by: Criterion | None = None
    ) -> None:
        self.by = by or settings.choose_by
        names = [task.name for task in tasks]
        unknown = sorted(set(settings.weights) - set(names))
        if unknown:
            raise ConfigError(
                f"final.weights: unknown tasks {', '.join(unknown)}; tasks: {', '.join(names)}"
            )
        negative = [task.name for task in tasks if task.range[0] < 0]
        if self.by == "geometric_mean" and negative:
            raise ConfigError(
                f"the geometric mean needs scores of at least 0, but {', '.join(negative)} can be "
                "negative; set final.choose_by to mean, minimum or weights"
            )
        self._weights = [settings.weights.get(name, 0.0) for name in names]
        if self.by == "weights" and not sum(self._weights):
            raise ConfigError("final.weights: at least one weight must be positive")

    def __call__(self, scores: Mapping[str, float]) -> float:
        """The value of a model's scores, by task name in the order of the tasks."""
        values = list(scores.values())
        if self.by == "mean":
            return float(np.mean(values))
        if self.by == "minimum":
            return min(values)
        if self.by == "weights":
            return float(np.average(values, weights=self._weights))
        return geometric_mean(values)


def choices(settings: FinalConfig, tasks: Sequence[Task]) -> dict[Criterion, Choice]:
    """Every criterion that fits the tasks and settings, by name; the chosen one is the first.

    Raises:
        ConfigError: The chosen one does not fit; see :class:`Choice`.
    """
    fitting: list[Criterion] = [settings.choose_by, "mean", "minimum"]
    if all(task.range[0] >= 0 for task in tasks):
        fitting.append("geometric_mean")
    if settings.weights:
        fitting.append("weights")
    return {by: Choice(settings, tasks, by) for by in dict.fromkeys(fitting)}


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean of scores of at least 0; 0 if one of them is 0."""
    return statistics.geometric_mean(values) if min(values) > 0 else 0.0


def mean_interval(items: Sequence[np.ndarray], resamples: int, seed: int) -> list[float] | None:
    """95 % bootstrap interval of the mean over tasks, resampling the items of each task.

    Args:
        items: Per task, ``(n_items,)`` scores whose mean is the task's score.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Lower and upper end (percentile method); None where a task has but one item.
    """
    if min(map(len, items)) < 2:
        return None
    from scipy.stats import bootstrap  # takes a second to import, which `status` need not wait for

    def mean_over_tasks(*samples: np.ndarray, axis: int) -> np.ndarray:
        return np.mean([sample.mean(axis=axis) for sample in samples], axis=0)

    interval = bootstrap(
        items,
        mean_over_tasks,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [float(interval.low), float(interval.high)]
