"""Executors: evaluations in this process, or in a pool of worker processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, Protocol

import numpy as np
from pebble import ProcessPool

from qdmerge.backend import SIDE, Evaluation, GenomeBackend, side_tasks
from qdmerge.errors import EvaluationError
from qdmerge.guide import Errand, evaluate

Timed = tuple[Evaluation, float]
"""An evaluation of one model, and the seconds it took without the guide's."""


class Executor(Protocol):
    """Evaluates single models; a protocol."""

    def submit(self, x: np.ndarray, split: str, errand: Errand | None = None) -> Future[Timed]:
        """Start the evaluation of the ``(dim,)`` solution ``x`` on a split.

        Args:
            x: The solution.
            split: The split.
            errand: What to ask of the guide before; see :func:`qdmerge.guide.evaluate`.

        Returns:
            A future of the evaluation; it raises what the backend raised, or how the worker died.
        """
        ...

    def close(self) -> None:
        """End all workers at once; running evaluations are lost."""
        ...


def limit_threads(threads: int) -> None:
    """Limit the CPU threads of numerical libraries in this process.

    Libraries that are not loaded yet read the environment; torch is set if it is loaded.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _evaluate(
    backend: GenomeBackend, x: np.ndarray, split: str, errand: Errand | None = None
) -> Timed:
    start = time.perf_counter()
    evaluation = evaluate(backend, x, split, errand)
    side = split == SIDE
    tasks = side_tasks(backend) if side else backend.tasks
    evaluation = evaluation.checked(1, len(tasks), 0 if side else len(backend.measures))
    if evaluation.items is not None:
        given = evaluation.items[0] or {}
        for task in tasks:
            items = np.asarray(given.get(task.name, ()), dtype=np.float64)
            if not (items.size and np.isfinite(items).all()):
                raise EvaluationError(
                    f"the backend returned per-item scores without finite ones of '{task.name}'"
                )
    return evaluation, time.perf_counter() - start - evaluation.guide_seconds


class _Deferred(Future[Timed]):
    """An evaluation in this process that begins when its result is asked for."""

    def __init__(self, evaluate: Callable[[], Timed]) -> None:
        super().__init__()
        self._evaluate = evaluate

    def result(self, timeout: float | None = None) -> Timed:
        """Evaluate now, unless that is done."""
        if not self.done():
            try:
                self.set_result(self._evaluate())
            except Exception as error:
                self.set_exception(error)
        return super().result(timeout)


class SerialExecutor:
    """Evaluates in this process, each model when its result is asked for.

    Every outcome can thus be logged before the next evaluation begins.

    Args:
        backend: The backend that evaluates.
    """

    def __init__(self, backend: GenomeBackend) -> None:
        self._backend = backend

    def submit(self, x: np.ndarray, split: str, errand: Errand | None = None) -> Future[Timed]:
        """Return a future that evaluates ``x`` when asked for its result; see :class:`Executor`."""
        return _Deferred(partial(_evaluate, self._backend, x, split, errand))

    def close(self) -> None:
        """Do nothing; the backend belongs to the caller."""


_Build = Callable[[], GenomeBackend]

_worker_backend: tuple[str, GenomeBackend] | None = None


def _evaluate_in_worker(key: str, build: _Build, threads: int, *what: Any) -> Timed:
    """Evaluate in a worker process, which keeps the backend that it built last."""
    global _worker_backend
    if _worker_backend is None or _worker_backend[0] != key:
        limit_threads(threads)
        if _worker_backend is not None:  # there is memory for one backend, not for two
            _worker_backend[1].close()
            _worker_backend = None
        _worker_backend = key, build()
    return _evaluate(_worker_backend[1], *what)


class WorkerPool:
    """Worker processes that evaluate with any backend, and keep the one they used last.

    A dead worker loses one evaluation (its future raises) and is replaced.

    Args:
        workers: Number of processes.
        threads: CPU threads of each worker.
        timeout: Seconds one evaluation may take before its worker is killed; None for no limit.
    """

    def __init__(self, workers: int, threads: int = 1, timeout: float | None = None) -> None:
        self.workers = workers
        self._threads = threads
        self._timeout = timeout
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        # Forking a process that uses torch's threads can deadlock.
        context = multiprocessing.get_context("spawn")
        return ProcessPool(max_workers=self.workers, context=context)

    def submit(
        self, key: str, build: _Build, x: np.ndarray, split: str, errand: Errand | None = None
    ) -> Future[Timed]:
        """Hand ``x`` to the next free worker.

        Args:
            key: Identifies the backend that ``build`` builds.
            build: Builds the backend in a worker that has another one.
            x: ``(dim,)`` solution.
            split: The split.
            errand: What to ask of the guide before.

        Returns:
            See :meth:`Executor.submit`.
        """
        arguments = (key, build, self._threads, x, split, errand)
        try:
            return self._pool.schedule(_evaluate_in_worker, arguments, timeout=self._timeout)
        except (RuntimeError, BrokenProcessPool):
            # All workers died at once (out of memory, say): start new ones.
            self.close()
            self._pool = self._new_pool()
            return self._pool.schedule(_evaluate_in_worker, arguments, timeout=self._timeout)

    def close(self) -> None:
        """End all workers at once; running evaluations are lost."""
        self._pool.stop()
        self._pool.join()


class ProcessExecutor:
    """Evaluates in worker processes, each with a backend of its own; see :class:`WorkerPool`.

    Args:
        build: Builds a backend; pickled into every worker.
        workers: Number of processes.
        threads: CPU threads of each worker.
        timeout: Seconds one evaluation may take before its worker is killed; None for no limit.
    """

    def __init__(
        self, build: _Build, workers: int, threads: int = 1, timeout: float | None = None
    ) -> None:
        self._build = build
        self._pool = WorkerPool(workers, threads, timeout)

    def submit(self, x: np.ndarray, split: str, errand: Errand | None = None) -> Future[Timed]:
        """Hand ``x`` to the next free worker; see :class:`Executor`."""
        return self._pool.submit("", self._build, x, split, errand)

    def close(self) -> None:
        """End all workers at once; running evaluations are lost."""
        self._pool.close()
