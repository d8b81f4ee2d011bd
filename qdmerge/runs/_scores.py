"""Scores after the search: on any split and on side tasks, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qdmerge.backend import SIDE, SPLITS, Task
from qdmerge.execution import Evaluator, PendingEvaluation
from qdmerge.runs._log import EventLog, SolutionStore, solution_id
from qdmerge.runs._search import Listener, RunProgress, plain_scores

REFERENCES = ("base", "expert", "average", "regmean")
"""Kinds of candidates that are shown beside the chosen one, in this order."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model of the results table, with a unique name; its details are what else decides it."""

    name: str
    kind: str  # "base", "expert", "average", "regmean", "task_arithmetic", "aggregate", "elite"
    x: np.ndarray
    details: dict[str, Any] = field(default_factory=dict)


class SplitScores:
    """Scores of models on any split; each is evaluated once and kept in the log, over sessions."""

    def __init__(
        self,
        tasks: Sequence[str],
        side_tasks: Sequence[str],
        evaluator: Evaluator,
        log: EventLog,
        store: SolutionStore,
        listener: Listener,
    ) -> None:
        self._tasks = {**dict.fromkeys(SPLITS, tuple(tasks)), SIDE: tuple(side_tasks)}
        self._evaluator = evaluator
        self._log = log
        self._store = store
        self._listener = listener
        self._known: dict[tuple[str, str], dict[str, Any]] = {
            (event["split"], event["solution"]): event
            for event in log.events
            if event["event"] == "final"
        }
        self.failures: dict[str, str] = {}
        """Solution id to where and why its evaluation failed, in this session."""
        self.evaluations = len(self._known)
        """Evaluations after the search, earlier sessions included."""

    def know(self, x: np.ndarray, scores: Sequence[float]) -> None:
        """Take over validation scores that the search measured."""
        self._known.setdefault(("validation", solution_id(x)), {"scores": list(scores)})

    def evaluate(self, xs: Sequence[np.ndarray], split: str, stage: str) -> None:
        """Evaluate all solutions that are not known on the split, with all workers busy. One that
        fails is logged with its cause and stays unknown; see :meth:`known`.
        """
        stored = {self._store.put(x): x for x in xs}
        unknown = {key: x for key, x in stored.items() if (split, key) not in self._known}
        pending: dict[str, PendingEvaluation] = {
            identity: self._evaluator.submit(x, split) for identity, x in unknown.items()
        }
        for done, (identity, evaluation) in enumerate(pending.items()):
            self._listener(RunProgress(stage, done, len(pending)))
            outcome = evaluation.result()
            where = {"split": split, "solution": identity}
            if outcome.evaluation is None:
                self.failures[identity] = f"on {split}: {outcome.cause}"
                failed = {"cause": outcome.cause, "attempts": outcome.attempts}
                self._log.append("final_failed", **where, **failed)
                continue
            event = self._log.append("final", **where, **plain_scores(outcome, self._store))
            self._known[split, identity] = event
            self.evaluations += 1
        if pending:
            self._listener(RunProgress(stage, len(pending), len(pending)))

    def known(self, x: np.ndarray, split: str) -> bool:
        """Return whether a solution's scores on a split are known."""
        return (split, solution_id(x)) in self._known

    def scores(self, x: np.ndarray, split: str) -> dict[str, float]:
        """Return the scores of an evaluated solution, by task name."""
        values = self._known[split, solution_id(x)]["scores"]
        return dict(zip(self._tasks[split], values, strict=True))

    def items(self, x: np.ndarray, split: str) -> dict[str, np.ndarray]:
        """Return the scores of single items by task name; {} if the backend gives none."""
        items = self._known[split, solution_id(x)].get("items")
        if items is None:
            return {}
        return {task: np.asarray(items[task], float) for task in self._tasks[split]}

    def also(self, x: np.ndarray, split: str) -> dict[str, float]:
        """Return the means of further scores: of items under names that are no task's."""
        items = self._known[split, solution_id(x)].get("items") or {}
        return {k: float(np.mean(v)) for k, v in items.items() if k not in self._tasks[split]}


def _interval(
    samples: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    resamples: int,
    seed: int,
    batch: int | None = None,
) -> list[float]:
    """Return the 95 % percentile bootstrap interval of a statistic of independent samples."""
    from scipy.stats import bootstrap  # takes a second to import

    rng = np.random.default_rng(seed)
    interval = bootstrap(
        samples, statistic, n_resamples=resamples, batch=batch, method="percentile", rng=rng
    ).confidence_interval
    return [float(interval.low), float(interval.high)]


def mean_interval(items: Sequence[np.ndarray], resamples: int, seed: int) -> list[float] | None:
    """Return the 95 % bootstrap interval of the mean over tasks, resampling each task's
    ``(n_items,)`` scores; None without items, or where a task has only one.
    """
    if min(map(len, items), default=0) < 2:
        return None

    def mean_over_tasks(*samples: np.ndarray, axis: int) -> np.ndarray:
        return np.mean([sample.mean(axis=axis) for sample in samples], axis=0)

    return _interval(items, mean_over_tasks, resamples, seed)


def relative_interval(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], resamples: int, seed: int
) -> list[float] | None:
    """Return the 95 % bootstrap interval of the mean over tasks of model over base, drawn with the
    same items; None if a task has one item, or the base scores 0 in 2.5 % of the resamples.
    """
    if min((len(own) for own, _ in pairs), default=0) < 2:
        return None

    def mean_over_tasks(*drawn: np.ndarray, axis: int) -> np.ndarray:
        ratios = []
        for (own, base), items in zip(pairs, drawn, strict=True):
            reference = base[items].mean(axis=axis)
            ratio = np.full_like(reference, np.inf)
            np.divide(own[items].mean(axis=axis), reference, out=ratio, where=reference > 0)
            ratios.append(ratio)
        return np.mean(ratios, axis=0)

    positions = [np.arange(len(own)) for own, _ in pairs]
    with np.errstate(invalid="ignore"):  # infinite ones have no standard error, which is not used
        # All resamples at once would hold resamples x items.
        low, high = _interval(positions, mean_over_tasks, resamples, seed, batch=100)
    return [low, high] if np.isfinite(high) else None


def score_side_tasks(
    tasks: Sequence[Task],
    candidates: Sequence[Candidate],
    chosen: Candidate,
    scores: SplitScores,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Score base, experts, average, aggregate and chosen model on the side tasks; {} without any.
    ``relative`` is to the base's scores, ``mean`` the mean of these (arXiv 2410.14735, table 3).
    """
    if not tasks:
        return {}
    shown = [
        one
        for one in candidates
        if one.kind in REFERENCES or one.name in ("aggregate", chosen.name)
    ]
    scores.evaluate([one.x for one in shown], SIDE, "side tasks")
    base = next(one for one in shown if one.kind == "base").x
    known = scores.known(base, SIDE)
    reference = scores.scores(base, SIDE) if known else {}
    base_items = scores.items(base, SIDE) if known else {}
    rows: list[dict[str, Any]] = []
    for one in shown:
        if not scores.known(one.x, SIDE):
            rows.append({"name": one.name, "failed": scores.failures[solution_id(one.x)]})
            continue
        values, items = scores.scores(one.x, SIDE), scores.items(one.x, SIDE)
        relative = {
            task: value / reference[task] if reference.get(task) else None
            for task, value in values.items()
        }
        defined = [value for value in relative.values() if value is not None]
        pairs = [
            (items[task], base_items[task])
            for task, value in relative.items()
            if value is not None and task in items and task in base_items
        ]
        rows.append(
            {
                "name": one.name,
                "scores": values,
                "also": scores.also(one.x, SIDE),
                "ci95": {
                    task: mean_interval([items[task]], resamples, seed) if task in items else None
                    for task in values
                },
                "relative": relative,
                "mean": float(np.mean(defined)) if defined else None,
                "mean_ci95": None
                if one.kind == "base"
                else relative_interval(pairs, resamples, seed),
            }
        )
    return {"tasks": [task.name for task in tasks], "rows": rows}
