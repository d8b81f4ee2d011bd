"""The contract of executors."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest

from qdmerge.backend import SPLITS, Evaluation, GenomeBackend, Task
from qdmerge.errors import EvaluationError
from qdmerge.execution import Evaluator, Executor
from qdmerge.spaces import VectorSpace

FINE, RAISES, DIES, HANGS, MISSHAPEN = range(5)
"""What the first coordinate of a solution has a :class:`ProbeBackend` do."""


class ProbeBackend(GenomeBackend):
    """A backend that any process can build, and that does what solutions tell it to.

    The scores of ``x`` are its last two coordinates plus the number of the split. The first
    coordinate is 0, or how the evaluation fails: 1 raises, 2 kills its process, 3 takes an hour,
    4 returns scores of a wrong shape.
    """

    def __init__(self) -> None:
        self.tasks = [Task("a"), Task("b")]
        self.space = VectorSpace({"base": np.zeros(3)})

    def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
        """Score solutions, or fail as they say."""
        fault = int(xs[0, 0])
        if fault == RAISES:
            raise ValueError("the probe is broken")
        if fault == DIES:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == HANGS:
            time.sleep(3600)
        scores = np.asarray(xs)[:, 1:] + SPLITS.index(split)
        return Evaluation(scores[:, :1] if fault == MISSHAPEN else scores)


def _x(fault: int = FINE, a: float = 0.0, b: float = 0.0) -> np.ndarray:
    return np.array([float(fault), a, b])


class ExecutorContract:
    """Tests that every executor passes.

    Attributes:
        processes: Whether evaluations run in other processes, whose death it survives.
        time_limit: Seconds that one evaluation may take in the executor that is made; None where
            it has no limit.
    """

    processes: ClassVar[bool] = True
    time_limit: ClassVar[float | None] = None

    def make_executor(self, build: Callable[[], GenomeBackend]) -> Executor:
        """Return a new executor of the backend that ``build`` builds, which can be pickled.

        Override this.
        """
        raise NotImplementedError("override make_executor()")

    def test_results_belong_to_their_solutions(self) -> None:
        """Every future has its own solution's evaluation, in whichever order they are asked."""
        executor = self.make_executor(ProbeBackend)
        try:
            futures = [executor.submit(_x(FINE, k, -k), "validation") for k in range(6)]
            for k in (3, 0, 5, 1, 4, 2):
                evaluation, seconds = futures[k].result()
                assert evaluation.scores.tolist() == [[k, -k]]
                assert evaluation.scores.dtype == np.float64
                assert evaluation.measures is not None
                assert evaluation.measures.shape == (1, 0)
                assert 0 <= seconds < 60
        finally:
            executor.close()

    def test_the_split_arrives(self) -> None:
        """Models are scored on the split that was asked for."""
        executor = self.make_executor(ProbeBackend)
        try:
            futures = {split: executor.submit(_x(), split) for split in SPLITS}
            scores = [future.result()[0].scores[0, 0] for future in futures.values()]
            assert scores == [0, 1, 2]
        finally:
            executor.close()

    def test_a_failure_is_an_outcome(self) -> None:
        """A future raises what its own evaluation raised; the others do not notice."""
        executor = self.make_executor(ProbeBackend)
        try:
            broken = executor.submit(_x(RAISES), "test")
            fine = executor.submit(_x(FINE, 1, 1), "test")
            with pytest.raises(ValueError, match="the probe is broken"):
                broken.result()
            assert fine.result()[0].scores.tolist() == [[3, 3]]
            outcome = Evaluator(executor, retries=1).submit(_x(RAISES), "test").result()
            assert (outcome.evaluation, outcome.attempts) == (None, 2)
            assert outcome.cause == "ValueError: the probe is broken"
        finally:
            executor.close()

    def test_a_wrong_shape_is_a_failure(self) -> None:
        """What a backend returns is checked where it is evaluated."""
        executor = self.make_executor(ProbeBackend)
        try:
            with pytest.raises(EvaluationError, match=r"scores of shape \(1, 1\)"):
                executor.submit(_x(MISSHAPEN), "validation").result()
        finally:
            executor.close()

    def test_a_dead_worker_is_an_outcome(self) -> None:
        """If a worker dies, one evaluation fails, and the next ones are evaluated."""
        if not self.processes:
            pytest.skip("evaluations run in this process")
        executor = self.make_executor(ProbeBackend)
        try:
            outcome = Evaluator(executor, retries=0).submit(_x(DIES), "test").result()
            assert outcome.evaluation is None
            assert outcome.cause
            evaluation, _ = executor.submit(_x(FINE, 2, 2), "validation").result()
            assert evaluation.scores.tolist() == [[2, 2]]
        finally:
            executor.close()

    def test_a_time_limit_is_kept(self) -> None:
        """An evaluation beyond the limit fails, and the next ones are evaluated."""
        if self.time_limit is None:
            pytest.skip("the executor has no time limit")
        executor = self.make_executor(ProbeBackend)
        try:
            start = time.monotonic()
            outcome = Evaluator(executor, retries=0).submit(_x(HANGS), "test").result()
            assert outcome.evaluation is None
            assert time.monotonic() - start < self.time_limit + 60
            assert executor.submit(_x(), "validation").result()[0].valid.all()
        finally:
            executor.close()

    def test_close_waits_for_nothing(self) -> None:
        """``close`` ends workers at once, evaluations under way included."""
        executor = self.make_executor(ProbeBackend)
        if self.processes:
            executor.submit(_x(), "validation").result()  # the worker is there
            executor.submit(_x(HANGS), "validation")
        start = time.monotonic()
        executor.close()
        assert time.monotonic() - start < 60
