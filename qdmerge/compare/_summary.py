"""The whole comparison as plain data: what ``compare.json`` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdmerge.backend import Task
from qdmerge.compare._caveats import caveats
from qdmerge.compare._convergence import curves, reach
from qdmerge.compare._fronts import Box, fronts, sets
from qdmerge.compare._rows import RunRow, methods_of
from qdmerge.compare._statistics import (
    RunValues,
    compare_pairs,
    estimated,
    fewest_items,
    median,
    resampled_scores,
)
from qdmerge.criteria import CRITERIA, over_tasks
from qdmerge.errors import ConfigError, nearest

COSTS = ("seconds", "passes", "evaluating", "guiding", "preparing")
"""Fields of a row that say what it cost, besides its evaluations."""


def summarize(
    rows: Sequence[RunRow],
    tasks: Sequence[Task],
    reference: str,
    criteria: Sequence[str],
    *,
    choose_by: str = "geometric_mean",
    weights: Mapping[str, float] | None = None,
    box: Box | None = None,
    resamples: int = 2000,
    seed: int = 0,
    budget: int | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Summarize a comparison as the plain data of ``compare.json``. ``choose_by`` is the criterion
    of the curves and of the levels to reach; tasks without a weight have weight 0.
    """
    methods = methods_of(rows)
    if reference not in methods:
        raise ConfigError(
            f"unknown reference '{reference}'{nearest(reference, methods)} "
            f"Methods: {', '.join(methods)}."
        )
    numbers = [number for number in CRITERIA if number != "weights" or weights]
    if min(task.range[0] for task in tasks) < 0:
        numbers.remove("geometric_mean")
    task_weights = [float((weights or {}).get(task.name, 0)) for task in tasks]
    summary: dict[str, Any] = {
        "tasks": [task.name for task in tasks],
        "reference": reference,
        "criteria": list(criteria),
        "measures": numbers,
        "choose_by": choose_by,
        "weights": dict(weights) if weights else None,
        "box": None if box is None else {"low": box.low.tolist(), "high": box.high.tolist()},
        "resamples": resamples,
        "seed": seed,
        "budget": budget,
        "budget_seconds": seconds,
        "methods": {name: {**_costs(name, rows), "picks": {}, "set": None} for name in methods},
        "paired": [],
    }
    for criterion in criteria:
        again = resampled_scores(rows, criterion, summary["tasks"], resamples, seed)
        for number in numbers:
            values = _test_values(rows, criterion, number, tasks, task_weights, again)
            for name, runs in methods.items():
                pick = summary["methods"][name]["picks"].setdefault(criterion, {})
                pick[number] = estimated(runs, values, _ends(tasks, number, task_weights))
            summary["paired"] += [
                {"criterion": criterion, "measure": number, **row}
                for row in compare_pairs(methods, reference, values, seed)
            ]
    found, compared = sets(methods, reference, box, seed)
    for name, one in found.items():
        summary["methods"][name]["set"] = one
    summary["paired"] += compared
    summary["curves"] = curves(rows, methods, numbers, task_weights)
    summary["reach"] = reach(methods, choose_by, task_weights)
    summary["fronts"] = fronts(rows, methods, summary["tasks"])
    summary["failed"] = [{**_about(row), "cause": row.cause} for row in rows if row.status != "ok"]
    summary["dropped"] = [{**_about(row), "candidates": row.dropped} for row in rows if row.dropped]
    summary["notes"] = caveats(summary)
    return summary


def ranked(summary: Mapping[str, Any], criterion: str) -> list[str]:
    """Return the methods, best first by what the criterion wants; those without a pick last."""
    number = criterion if criterion in summary["measures"] else summary["measures"][0]

    def value(name: str) -> float:
        pick = (summary["methods"][name]["picks"].get(criterion) or {}).get(number)
        return pick["value"] if pick else -np.inf

    return sorted(summary["methods"], key=value, reverse=True)


def _about(row: RunRow) -> dict[str, Any]:
    return {"method": row.method, "seed": row.seed, "block": row.test_bed}


def _costs(name: str, rows: Sequence[RunRow]) -> dict[str, Any]:
    own = [row for row in rows if row.method == name]
    done = [row for row in own if row.status == "ok"]
    training: dict[str, list[float]] = {}
    for row in done:
        for key, value in (row.training or {}).items():
            training.setdefault(key, []).append(float(value))
    return {
        "runs": len(done),
        "failed": len(own) - len(done),
        "seeds": sorted({row.seed for row in own if row.seed is not None}),
        "evaluations": median([row.evaluations for row in done]),
        "most_evaluations": max((row.evaluations for row in done), default=None),
        **{cost: median([getattr(row, cost) for row in done]) for cost in COSTS},
        "most_seconds": max((row.evaluating + row.guiding for row in done), default=None),
        "training": {key: median(values) for key, values in training.items()} or None,
    }


def _test_values(
    rows: Sequence[RunRow],
    criterion: str,
    number: str,
    tasks: Sequence[Task],
    weights: Sequence[float],
    again: Sequence[np.ndarray | None],
) -> RunValues:
    """Return one number over the tasks of the test scores of a criterion's picks."""
    values = {}
    replicates = {}
    for row, scores in zip(rows, again, strict=True):
        if row.status != "ok" or criterion not in row.picks:
            continue
        test = row.picks[criterion].test
        one = over_tasks(number, np.array([test[task.name] for task in tasks]), weights)
        values[row] = float(one)
        if scores is not None:
            replicates[row] = over_tasks(number, scores, weights)
    return RunValues(values, replicates, fewest_items(rows, criterion))


def _ends(tasks: Sequence[Task], number: str, weights: Sequence[float]) -> list[float]:
    """Return the lowest and the highest value that a number over the tasks can take."""
    ends = np.array([task.range for task in tasks]).T
    if not np.isfinite(ends).all():
        return [-np.inf, np.inf]
    return [float(end) for end in over_tasks(number, ends, weights)]
