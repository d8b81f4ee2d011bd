"""Models of the results table, and their scores on the splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qdmerge.backend import SIDE, SPLITS
from qdmerge.execution import Evaluator, PendingEvaluation
from qdmerge.runs._log import EventLog, SolutionStore, solution_id
from qdmerge.runs._search import Listener, RunProgress, plain_scores


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model of the results table.

    Attributes:
        name: Unique name ("aggregate", "best:coding", "expert:db").
        kind: "base", "expert", "average", "regmean", "task_arithmetic", "aggregate" or "elite".
        x: ``(dim,)`` solution.
        details: What else decides it, such as its scale.
    """

    name: str
    kind: str
    x: np.ndarray
    details: dict[str, Any] = field(default_factory=dict)


class SplitScores:
    """Scores of models on any split, each evaluated once and kept in the log.

    Args:
        tasks: Names of the tasks.
        side_tasks: Names of the side tasks.
        evaluator: Evaluates.
        log: Holds the evaluations of earlier sessions, and takes new ones.
        store: Keeps the solutions.
        listener: Is told of the progress.
    """

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
        self.evaluations = 0
        """Evaluations that the run needed after the search, earlier sessions included."""
        self.evaluations += len(self._known)
        self.seconds = sum(float(event["seconds"]) for event in self._known.values())

    def know(self, x: np.ndarray, scores: Sequence[float]) -> None:
        """Takes over validation scores that the search has measured."""
        self._known.setdefault(("validation", solution_id(x)), {"scores": list(scores)})

    def evaluate(self, xs: Sequence[np.ndarray], split: str, stage: str) -> None:
        """Evaluates all solutions that are not known on the split, all workers busy.

        One that fails is logged with its cause and stays unknown; see :meth:`known`.
        """
        unknown = {solution_id(x): x for x in xs if (split, solution_id(x)) not in self._known}
        pending: dict[str, PendingEvaluation] = {
            identity: self._evaluator.submit(x, split) for identity, x in unknown.items()
        }
        for done, (identity, evaluation) in enumerate(pending.items()):
            self._listener(RunProgress(stage, done, len(pending)))
            outcome = evaluation.result()
            self._store.put(unknown[identity])
            if outcome.evaluation is None:
                self.failures[identity] = f"on {split}: {outcome.cause}"
                self._log.append(
                    "final_failed",
                    split=split,
                    solution=identity,
                    cause=outcome.cause,
                    attempts=outcome.attempts,
                )
                continue
            event = self._log.append(
                "final",
                split=split,
                solution=identity,
                **plain_scores(outcome),
            )
            self._known[split, identity] = event
            self.evaluations += 1
            self.seconds += outcome.seconds
        if pending:
            self._listener(RunProgress(stage, len(pending), len(pending)))

    def known(self, x: np.ndarray, split: str) -> bool:
        """Whether a solution's scores on a split are known."""
        return (split, solution_id(x)) in self._known

    def scores(self, x: np.ndarray, split: str) -> dict[str, float]:
        """Task name to score of an evaluated solution."""
        values = self._known[split, solution_id(x)]["scores"]
        return dict(zip(self._tasks[split], values, strict=True))

    def items(self, x: np.ndarray, split: str) -> list[np.ndarray] | None:
        """Per task, the scores of single items, if the backend gives them."""
        items = self._known[split, solution_id(x)].get("items")
        if items is None:
            return None
        return [np.asarray(items[task], float) for task in self._tasks[split]]
