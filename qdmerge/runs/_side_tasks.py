"""Side tasks: scores relative to the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdmerge.backend import SIDE, Task
from qdmerge.runs._choice import mean_interval
from qdmerge.runs._log import solution_id
from qdmerge.runs._scores import Candidate, SplitScores


def score_side_tasks(
    tasks: Sequence[Task],
    candidates: Sequence[Candidate],
    chosen: Candidate,
    scores: SplitScores,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Score base, experts, average, aggregate and chosen model on the side tasks.

    Args:
        tasks: The side tasks.
        candidates: All candidates.
        chosen: The one that was chosen.
        scores: Evaluates and remembers.
        resamples: Number of resamples of the bootstrap.
        seed: Its seed.

    Returns:
        ``tasks``, their names; ``rows``, per model its ``name``, ``scores``, the scores' ``ci95``
        (None where there are no items), the scores' ``relative`` values (1 is the base's; None
        where the base has 0), their ``mean`` (arXiv 2410.14735, table 3) and its ``mean_ci95``, or
        the cause why it could not be evaluated. {} without tasks.
    """
    if not tasks:
        return {}
    shown = [
        one
        for one in candidates
        if one.kind in ("base", "expert", "average", "regmean")
        or one.name in ("aggregate", chosen.name)
    ]
    scores.evaluate([one.x for one in shown], SIDE, "side tasks")
    base = next(one for one in shown if one.kind == "base")
    reference = scores.scores(base.x, SIDE) if scores.known(base.x, SIDE) else {}
    base_items = _items(base, scores) if reference else {}
    rows: list[dict[str, Any]] = []
    for one in shown:
        if not scores.known(one.x, SIDE):
            rows.append({"name": one.name, "failed": scores.failures[solution_id(one.x)]})
            continue
        values = scores.scores(one.x, SIDE)
        relative = {
            task: value / reference[task] if reference.get(task) else None
            for task, value in values.items()
        }
        known = [value for value in relative.values() if value is not None]
        mean = float(np.mean(known)) if known else None
        items = _items(one, scores)
        pairs = [
            (items[task], base_items[task])
            for task, value in relative.items()
            if value is not None and task in items and task in base_items
        ]
        rows.append(
            {
                "name": one.name,
                "scores": values,
                "ci95": {
                    task: mean_interval([items[task]], resamples, seed) if task in items else None
                    for task in values
                },
                "relative": relative,
                "mean": mean,
                "mean_ci95": relative_interval(pairs, resamples, seed) if one is not base else None,
            }
        )
    return {"tasks": [task.name for task in tasks], "rows": rows}


def relative_interval(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], resamples: int, seed: int
) -> list[float] | None:
    """95 % bootstrap interval of the mean over tasks of a model's score relative to the base's.

    Both are resampled with the same items, so what is easy or hard for both does not count. A
    resample in which the base has 0 counts as infinite, hence as one above the interval.

    Args:
        pairs: Per task, ``(n_items,)`` scores of the model and of the base.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        Lower and upper end (percentile method); None where a task has but one item, or where the
        base has 0 in so many resamples, 2.5 %, that there is no upper end.
    """
    if min((len(own) for own, _ in pairs), default=0) < 2:
        return None
    from scipy.stats import bootstrap  # takes a second to import

    def mean_over_tasks(*drawn: np.ndarray, axis: int) -> np.ndarray:
        ratios = []
        for (own, base), items in zip(pairs, drawn, strict=True):
            reference = base[items].mean(axis=axis)
            ratio = np.full_like(reference, np.inf)
            np.divide(own[items].mean(axis=axis), reference, out=ratio, where=reference > 0)
            ratios.append(ratio)
        return np.mean(ratios, axis=0)

    with np.errstate(invalid="ignore"):  # infinite ones have no standard error, which is not used
        interval = bootstrap(
            [np.arange(len(own)) for own, _ in pairs],
            mean_over_tasks,
            n_resamples=resamples,
            batch=100,  # all at once would hold resamples x items
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return [float(interval.low), float(interval.high)] if np.isfinite(interval.high) else None


def _items(one: Candidate, scores: SplitScores) -> Mapping[str, np.ndarray]:
    """Task to the scores of its items; {} where the backend gives none."""
    items = scores.items(one.x, SIDE)
    return {} if items is None else dict(zip(scores.scores(one.x, SIDE), items, strict=True))
