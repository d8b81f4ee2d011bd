"""Evaluations that many runs share: each model once, recorded on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qdmerge.backend import GenomeBackend
from qdmerge.errors import RunError
from qdmerge.execution import Outcome, Timed, WorkerPool
from qdmerge.guide import Errand
from qdmerge.runs import solution_id
from qdmerge.runs._log import EventLog, SolutionStore
from qdmerge.runs._search import plain_scores, recalled_outcome

_PARTS = ("domain", "split", "solution", "errand")
"""What identifies an evaluation; the errand is "" where there is none."""


class SharedEvaluations:
    """One pool of workers that evaluates each model once for all runs. The file keeps evaluations
    with their seconds, so that a run that reuses one reports what it would have cost alone.
    """

    def __init__(self, pool: WorkerPool, path: Path) -> None:
        self._pool = pool
        self._log = EventLog(path)
        self._store = SolutionStore(path.parent / "solutions")
        self._lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._stopped = False
        self._waiting: dict[tuple[str, ...], list[Future[Timed]]] = {}
        try:
            self._known: dict[tuple[str, ...], Timed] = {
                tuple(event.get(part, "") for part in _PARTS): self._recalled(event)
                for event in self._log.events
            }
        except KeyError as error:
            raise RunError(
                f"{path} is of another version of qdmerge: its evaluations have no {error}. Remove "
                "it; the logs of finished runs keep their evaluations"
            ) from error
        self._log.events.clear()

    def submit(
        self,
        domain: str,
        build: Callable[[], GenomeBackend],
        x: np.ndarray,
        split: str,
        errand: Errand | None = None,
    ) -> Future[Timed]:
        """Evaluate ``x``, unless that is known or under way."""
        key = (domain, split, solution_id(x), "" if errand is None else repr(errand))
        future: Future[Timed] = Future()
        begins = False
        with self._lock:
            if self._stopped:
                future.set_exception(KeyboardInterrupt())
            elif key in self._known:
                future.set_result(self._known[key])
            elif key in self._waiting:
                self._waiting[key].append(future)
            else:
                self._waiting[key] = [future]
                begins = True
        if begins:
            begun = self._begin(domain, build, x, split, errand)
            begun.add_done_callback(partial(self._ended, key))
        return future

    def _begin(self, *what: Any) -> Future[Timed]:
        # Not under the lock that finished evaluations need: a broken pool is replaced here, which
        # waits for the callbacks of all its evaluations.
        try:
            with self._pool_lock:
                return self._pool.submit(*what)
        except Exception as error:  # raised in all runs that wait for this model
            failed: Future[Timed] = Future()
            failed.set_exception(error)
            return failed

    def _ended(self, key: tuple[str, ...], begun: Future[Timed]) -> None:
        error = _error(begun)
        with self._lock:
            waiting = self._waiting.pop(key, [])
            if error is None:
                self._known[key] = begun.result()
                try:
                    self._remember(key, begun.result())
                except Exception as cause:  # raised in the runs that wait
                    error = cause
        for future in waiting:
            if error is None:
                future.set_result(begun.result())
            else:
                future.set_exception(error)

    def _remember(self, key: tuple[str, ...], timed: Timed) -> None:
        evaluation, seconds = timed
        if not evaluation.valid.all():
            return
        where = {name: part for name, part in zip(_PARTS, key, strict=True) if part}
        scores = plain_scores(Outcome(evaluation, seconds, 1), self._store)
        self._log.append("evaluation", **where, **scores)

    def _recalled(self, event: dict[str, Any]) -> Timed:
        outcome = recalled_outcome(event, self._store)
        assert outcome.evaluation is not None
        return outcome.evaluation, outcome.seconds

    def stop(self) -> None:
        """Interrupt all runs: their waiting evaluations raise KeyboardInterrupt."""
        with self._lock:
            self._stopped = True
            waiting = [future for futures in self._waiting.values() for future in futures]
            self._waiting.clear()
        for future in waiting:
            future.set_exception(KeyboardInterrupt())

    def close(self) -> None:
        """End the workers and close the file."""
        self._pool.close()
        self._log.close()


class SharedExecutor:
    """One domain, by its fingerprint, of :class:`SharedEvaluations`; workers call ``build``."""

    def __init__(
        self, shared: SharedEvaluations, domain: str, build: Callable[[], GenomeBackend]
    ) -> None:
        self._shared = shared
        self._domain = domain
        self._build = build

    def submit(self, x: np.ndarray, split: str, errand: Errand | None = None) -> Future[Timed]:
        """Evaluate ``x``; see :class:`qdmerge.execution.Executor`."""
        return self._shared.submit(self._domain, self._build, x, split, errand)

    def close(self) -> None:
        """Do nothing: the workers are shared."""


def _error(future: Future[Timed]) -> BaseException | None:
    try:
        return future.exception()
    except BaseException as error:  # cancelled
        return error
