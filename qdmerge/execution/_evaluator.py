"""Evaluations that may fail: they are retried, then their outcome is recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from pebble import ProcessExpired

from qdmerge.backend import Evaluation
from qdmerge.execution._executors import Executor, Timed
from qdmerge.guide import Errand


@dataclass(frozen=True)
class Outcome:
    """The outcome of the evaluation of one model.

    Attributes:
        evaluation: The evaluation, or None if it failed.
        seconds: Wall time of the last attempt without the guide's; 0 if it failed.
        attempts: Number of attempts.
        cause: Why it failed, or None.
    """

    evaluation: Evaluation | None
    seconds: float
    attempts: int
    cause: str | None = None


class Evaluator:
    """Submits models to an executor, and turns errors into outcomes.

    Args:
        executor: Where evaluations run.
        retries: How often an evaluation is repeated that raised or whose worker died.
    """

    def __init__(self, executor: Executor, retries: int = 1) -> None:
        self._executor = executor
        self._retries = retries

    def submit(self, x: np.ndarray, split: str, errand: Errand | None = None) -> PendingEvaluation:
        """Start the evaluation of the ``(dim,)`` solution ``x``; see :meth:`Executor.submit`."""
        return PendingEvaluation(partial(self._executor.submit, x, split, errand), self._retries)


def first_ended(groups: Iterable[Collection[PendingEvaluation]]) -> int:
    """Wait until all evaluations of one group have ended; return the number of the group."""
    groups = list(groups)
    while True:
        for number, group in enumerate(groups):
            ended = [pending.ended() for pending in group]  # each: failures are tried again now
            if all(ended):
                return number
        under_way = [pending._future for group in groups for pending in group]
        wait([one for one in under_way if not one.done()], return_when=FIRST_COMPLETED)


class PendingEvaluation:
    """An evaluation under way."""

    def __init__(self, submit: Callable[[], Future[Timed]], retries: int) -> None:
        self._submit = submit
        self._retries = retries
        self._future = submit()
        self._attempt = 1

    def _try_again(self) -> bool:
        """Submit the failed evaluation anew if it may be tried again; return whether."""
        if self._attempt > self._retries:
            return False
        self._attempt += 1
        self._future = self._submit()
        return True

    def ended(self) -> bool:
        """Return whether the outcome is there; one that may be tried again is submitted anew."""
        future = self._future
        if not future.done():
            return False
        failed = future.cancelled() or isinstance(future.exception(), Exception)
        return not (failed and self._try_again())

    def result(self) -> Outcome:
        """Wait for the outcome."""
        while True:
            try:
                evaluation, seconds = self._future.result()
                break
            except Exception as error:
                if not self._try_again():
                    return Outcome(None, 0.0, self._attempt, describe(error))
        if not evaluation.valid.all():
            # Evaluations are deterministic, so another attempt would give the same.
            cause = f"scores or measures are not finite: {_values(evaluation)}"
            if replace(evaluation, jacobians=None).valid.all():
                cause = "gradients of the guide are not finite"
            return Outcome(None, 0.0, self._attempt, cause)
        return Outcome(evaluation, seconds, self._attempt)


def describe(error: BaseException) -> str:
    """Return one line about an error of an evaluation."""
    if isinstance(error, ProcessExpired):
        return f"the worker process died (exit code {error.exitcode})"
    if isinstance(error, TimeoutError) and error.args[:1] == ("Task timeout",):
        return "the evaluation took longer than execution.timeout"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _values(evaluation: Evaluation) -> str:
    numbers = [evaluation.scores[0]]
    if evaluation.measures is not None:
        numbers.append(evaluation.measures[0])
    return str(np.concatenate(numbers).tolist())
