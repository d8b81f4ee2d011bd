"""Evaluations that runs share: nobody waits forever, whatever happens to the pool."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import numpy as np
import pytest

from qdmerge.backend import Evaluation
from qdmerge.compare._shared import SharedEvaluations, SharedExecutor
from qdmerge.errors import RunError
from qdmerge.execution import Timed
from qdmerge.runs._log import EventLog

X = np.eye(3)
DONE: Timed = (Evaluation(np.array([[0.5]])), 1.0)


class Pool:
    """A pool whose evaluations end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[Future[Timed]] = []

    def submit(self, *_: object) -> Future[Timed]:
        self.begun.append(Future())
        return self.begun[-1]

    def close(self) -> None:
        pass


class BrokenPool(Pool):
    """As the real one when all workers died: its own thread tells all, and is waited for."""

    told = True

    def submit(self, *arguments: object) -> Future[Timed]:
        for future in self.begun:
            thread = threading.Thread(target=future.set_exception, args=[OSError("died")])
            thread.start()
            thread.join(5)
            self.told &= not thread.is_alive()
        return super().submit(*arguments)


def shared(pool: Pool, folder) -> SharedEvaluations:
    return SharedEvaluations(pool, folder / "evaluations.jsonl")  # type: ignore[arg-type]


def test_a_pool_that_is_made_anew_can_tell_what_ended_with_it(tmp_path):
    pool = BrokenPool()
    executor = SharedExecutor(shared(pool, tmp_path), "domain", lambda: None)  # type: ignore[arg-type,return-value]
    first = executor.submit(X[0], "test")
    second = executor.submit(X[1], "test")
    assert pool.told, "the pool's thread could not tell the run, and nobody went on"
    with pytest.raises(OSError, match="died"):
        first.result(5)
    pool.begun[-1].set_result(DONE)
    assert second.result(5) is DONE


def test_a_model_that_could_not_be_submitted_can_be_asked_for_again(tmp_path):
    pool = Pool()
    submit = pool.submit

    def refuse(*_: object) -> Future[Timed]:
        raise RuntimeError("no workers")

    pool.submit = refuse  # type: ignore[method-assign]
    executor = SharedExecutor(shared(pool, tmp_path), "domain", lambda: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(RuntimeError, match="no workers"):
        executor.submit(X[0], "test").result(5)
    pool.submit = submit  # type: ignore[method-assign]
    again = executor.submit(X[0], "test")
    pool.begun[0].set_result(DONE)
    assert again.result(5) is DONE


def test_one_model_is_evaluated_once_however_many_ask(tmp_path):
    pool = Pool()
    executor = SharedExecutor(shared(pool, tmp_path), "domain", lambda: None)  # type: ignore[arg-type,return-value]
    futures = [executor.submit(X[0], "test") for _ in range(3)]
    pool.begun[0].set_result(DONE)
    futures.append(executor.submit(X[0], "test"))
    assert [future.result(5) for future in futures] == [DONE] * 4
    assert len(pool.begun) == 1


def test_evaluations_of_another_version_are_told(tmp_path):
    event = {"domain": "d", "split": "test", "solution": "0", "scores": [0.5], "measures": []}
    EventLog(tmp_path / "evaluations.jsonl").append("evaluation", **event)
    with pytest.raises(RunError, match="of another version of qdmerge: .* no 'seconds'. Remove it"):
        shared(Pool(), tmp_path)
