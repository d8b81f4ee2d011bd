"""Bootstrap intervals of means over tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
