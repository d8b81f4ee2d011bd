"""The search of a run: ask, evaluate, log, tell; and the replay of its log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qdmerge.backend import Evaluation, Progress
from qdmerge.errors import EvaluationError, RunError
from qdmerge.execution import Evaluator, Outcome, PendingEvaluation, first_ended
from qdmerge.guide import joined
from qdmerge.runs._folder import versions
from qdmerge.runs._log import Event, EventLog, SolutionStore, solution_id
from qdmerge.schedulers import Batch
from qdmerge.search import CycleQD, Stats, archive_stats


@dataclass(frozen=True)
class RunProgress:
    """Where a run stands.

    Attributes:
        stage: What is running ("search", "selection", ...).
        done: Evaluations of this stage that ended.
        total: All evaluations of this stage; 0 for a stage without any.
        task: In the search, the active task.
        failed: In the search, failed evaluations so far.
        stats: In the search, the archives' statistics.
    """

    stage: str
    done: int
    total: int
    task: str | None = None
    failed: int = 0
    stats: Stats | None = None


Listener = Callable[[RunProgress], None]
"""Receives the progress of a run."""


def stage_progress(listener: Listener) -> Progress:
    """Return a callback of backends and spaces that reports to a run's listener."""
    return lambda stage, done, total: listener(RunProgress(stage, done, total))


@dataclass
class _Out:
    """A batch that was asked for and not told yet."""

    batch: Batch
    outcomes: dict[int, Outcome]
    pending: dict[int, PendingEvaluation]


class LoggedSearch:
    """A search that logs each step before the next. Where batches are told in the order they were
    asked for, results depend on ``in_flight``, but neither on timing nor on the number of workers.
    """

    def __init__(
        self,
        search: CycleQD,
        evaluator: Evaluator,
        log: EventLog,
        store: SolutionStore,
        *,
        budget: int,
        seconds: float | None,
        in_flight: int,
        order: str,
        max_failures: int,
        listener: Listener,
    ) -> None:
        self.search = search
        self._evaluator = evaluator
        self._log = log
        self._store = store
        self._budget = budget
        self._seconds = np.inf if seconds is None else seconds
        self._in_flight = in_flight
        self._order = order
        self._max_failures = max_failures
        self._listener = listener
        self._out: dict[int, _Out] = {}
        self._asked = 0
        self._ended = 0
        self._failed = 0
        self._failures_in_a_row = 0
        self._spent = 0.0

    def replay(self) -> None:
        """Repeat what the log holds, with the recorded scores; evaluate nothing. Raise RunError if
        the configuration, this machine or its library versions give other solutions.
        """
        try:
            for event in self._log.events:
                if event["event"] == "ask":
                    self._replay_ask(event)
                elif event["event"] in ("scores", "failed"):
                    self._replay_outcome(event)
                elif event["event"] == "tell":
                    self._replay_tell(event)
        except KeyError as error:
            raise RunError(
                f"the log is inconsistent: it refers to unknown batch {error}"
            ) from error
        self._failures_in_a_row = 0

    def _replay_ask(self, event: Event) -> None:
        if not self.search.ready:
            raise RunError(
                f"the log asks for batch {event['batch']} where this configuration cannot"
            )
        batch = self.search.ask()
        solutions = [self._store.put(x) for x in batch.solutions]
        if (batch.id, batch.task, solutions) != (event["batch"], event["task"], event["solutions"]):
            raise RunError(
                f"replaying the log gives another batch {batch.id} than the one recorded; "
                f"{self._suspects()}"
            )
        self._register(batch)

    def _replay_outcome(self, event: Event) -> None:
        out, outcome = self._out[event["batch"]], recalled_outcome(event, self._store)
        if out.batch.task is None and outcome.cause:
            return  # The search cannot start without its seeds, so a failed one is tried again.
        out.outcomes[event["index"]] = outcome
        self._count(event)

    def _replay_tell(self, event: Event) -> None:
        out = self._out.pop(event["batch"])
        if len(out.outcomes) < len(out.batch):
            raise RunError(f"the log tells batch {event['batch']} before all its scores")
        self._tell(out)
        if archive_stats(self.search) != event["stats"]:
            raise RunError(
                f"replaying the log gives other archives after batch {event['batch']} than "
                f"recorded; {self._suspects()}"
            )

    def _suspects(self) -> str:
        recorded = self._log.events[0].get("versions", {})
        changed = [
            f"{name} was {recorded.get(name)}, is {now}"
            for name, now in versions().items()
            if recorded.get(name) != now
        ]
        if changed:
            return f"other versions are installed: {'; '.join(changed)}"
        return "the same versions are installed, so suspect another CPU, or changed experts or code"

    def run(self) -> None:
        """Search until a budget is spent; raise if a seed or too many models in a row fail."""
        for out in self._out.values():
            self._submit(out)
        while True:
            while (
                len(self._out) < self._in_flight
                and self._asked < self._budget
                and self._spent <= self._seconds
                and self.search.ready
            ):
                self._submit(self._ask())
            if not self._out:
                return
            outs = list(self._out.values())
            finished = self._order == "finished"
            next_out = first_ended(out.pending.values() for out in outs) if finished else 0
            self._finish(outs[next_out])

    def _ask(self) -> _Out:
        batch = self.search.ask()
        parents = [
            None if made_from is None else [solution_id(x) for x in made_from]
            for made_from in batch.parents
        ]
        self._log.append(
            "ask",
            batch=batch.id,
            task=batch.task,
            solutions=[self._store.put(x, flush=False) for x in batch.solutions],
            names=list(batch.names),
            parents=parents,
            **_errands(batch),
        )
        return self._register(batch)

    def _register(self, batch: Batch) -> _Out:
        out = _Out(batch, {}, {})
        self._out[batch.id] = out
        self._asked += 0 if batch.task is None else len(batch)
        return out

    def _submit(self, out: _Out) -> None:
        errands = out.batch.errands or (None,) * len(out.batch)
        for index, (x, errand) in enumerate(zip(out.batch.solutions, errands, strict=True)):
            if index not in out.outcomes:
                out.pending[index] = self._evaluator.submit(x, "validation", errand)

    def _finish(self, out: _Out) -> None:
        """Wait for a batch, log its outcomes and tell the search."""
        for index, pending in out.pending.items():
            outcome = pending.result()
            out.outcomes[index] = outcome
            where = {"batch": out.batch.id, "index": index}
            if outcome.evaluation is None:
                failure = {"cause": outcome.cause, "attempts": outcome.attempts}
                event = self._log.append("failed", **where, **failure)
            else:
                scores = plain_scores(outcome, self._store)
                event = self._log.append("scores", **where, **scores)
            self._count(event)
            if out.batch.task is None and outcome.cause:
                raise EvaluationError(
                    f"seed '{out.batch.names[index]}' could not be evaluated: {outcome.cause}. The "
                    "archives are sized from the scores of base and experts, so nothing can start "
                    "without them"
                )
            if self._failures_in_a_row >= self._max_failures:
                raise RunError(
                    f"{self._failures_in_a_row} evaluations failed in a row, the last one with: "
                    f"{outcome.cause}. All results so far are kept; fix the cause, then resume"
                )
        del self._out[out.batch.id]
        self._tell(out)
        self._log.append("tell", batch=out.batch.id, stats=archive_stats(self.search))
        self._listener(
            RunProgress(
                "search" if out.batch.task else "seeds",
                self._ended,
                self._budget,
                out.batch.task,
                self._failed,
                archive_stats(self.search),
            )
        )

    def _count(self, event: Event) -> None:
        """Count an outcome, as the log has it: after a resume the search ends as it would have."""
        failed, child = event["event"] == "failed", event["batch"] >= 0
        self._failures_in_a_row = self._failures_in_a_row + 1 if failed else 0
        self._failed += failed
        self._ended += child
        self._spent += child * (event.get("seconds", 0.0) + event.get("guiding", 0.0))

    def _tell(self, out: _Out) -> None:
        backend = self.search.backend
        found = [out.outcomes[index].evaluation for index in range(len(out.batch))]
        evaluation = joined(out.batch.solutions, found, len(backend.tasks), len(backend.measures))
        self.search.tell(out.batch, evaluation)


def _errands(batch: Batch) -> dict[str, Any]:
    """Return the errands of a batch as its event of the log keeps them; {} for none."""
    plain = [one and {"kind": type(one).__name__, **asdict(one)} for one in batch.errands]
    return {"errands": plain} if plain else {}


def plain_scores(outcome: Outcome, store: SolutionStore) -> dict[str, Any]:
    """Return the scores of an outcome that did not fail, as the log keeps them. What a guide made
    goes into the store: the solution that was scored, the Jacobian, the corners of a plane.
    """
    evaluation = outcome.evaluation
    assert evaluation is not None
    measures = evaluation.measures
    items = None if evaluation.items is None else evaluation.items[0]
    guided: dict[str, Any] = {}
    if evaluation.passes:
        guided = {"passes": evaluation.passes, "guiding": round(evaluation.guide_seconds, 4)}
    if evaluation.solutions is not None:
        guided["improved"] = store.put(evaluation.solutions[0])
    if evaluation.jacobians is not None:
        guided["jacobian"] = store.put(evaluation.jacobians[0])
    if evaluation.planes is not None:
        guided["plane"] = store.put(evaluation.planes[0])
    return {
        "scores": evaluation.scores[0].tolist(),
        "measures": [] if measures is None else measures[0].tolist(),
        "items": items and {task: np.asarray(one, float).tolist() for task, one in items.items()},
        "seconds": round(outcome.seconds, 4),
        "attempts": outcome.attempts,
        **guided,
    }


def recalled_outcome(event: Event, store: SolutionStore) -> Outcome:
    """Return the outcome in an event of the log; the inverse of :func:`plain_scores`."""
    if event["event"] == "failed":
        return Outcome(None, 0.0, event["attempts"], event["cause"])
    items = event.get("items")

    def stored(name: str) -> np.ndarray | None:
        return store.get(event[name])[None] if name in event else None

    evaluation = Evaluation(
        np.array([event["scores"]], float),
        np.array([event["measures"]], float),
        items and [{task: np.array(values, float) for task, values in items.items()}],
        stored("improved"),
        stored("jacobian"),
        stored("plane"),
        event.get("passes", 0),
        event.get("guiding", 0.0),
    )
    return Outcome(evaluation, event["seconds"], event["attempts"])
