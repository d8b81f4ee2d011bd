"""Executors and retries, with real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from qdmerge.backend import Evaluation, GenomeBackend, Task
from qdmerge.execution import Evaluator, ProcessExecutor, SerialExecutor, limit_threads
from qdmerge.spaces import VectorSpace


class Recorder(GenomeBackend):
    """Scores x itself; notes each build, and misbehaves where x tells it to, so many times."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes
        self.tasks = [Task("a"), Task("b")]
        self.space = VectorSpace({"base": np.zeros(2)})
        self.note("built")

    def note(self, what: str) -> None:
        with (self.notes / what).open("a") as file:
            file.write(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}\n")

    def count(self, what: str) -> int:
        path = self.notes / what
        return len(path.read_text().splitlines()) if path.exists() else 0

    def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
        fault, times = xs[0]
        self.note(f"tries-{fault}")
        if fault and self.count(f"tries-{fault}") <= times:
            if fault == 1:
                raise ValueError("broken")
            if fault == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == 3:
                time.sleep(60)
        time.sleep(0.05)
        return Evaluation(np.array([[np.inf, 0.5]]) if fault == 4 else xs)


@pytest.fixture
def pool(tmp_path) -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor(partial(Recorder, tmp_path), workers=2, threads=1, timeout=5)
    yield executor
    executor.close()


def x(fault: int = 0, times: int = 0) -> np.ndarray:
    return np.array([float(fault), float(times)])


def test_each_worker_builds_its_own_backend_once(pool, tmp_path):
    futures = [pool.submit(x(0, k), "validation") for k in range(8)]
    for k, future in enumerate(futures):
        evaluation, seconds = future.result()
        assert evaluation.scores.tolist() == [[0.0, float(k)]]
        assert seconds >= 0.05
    built = (tmp_path / "built").read_text().split("\n")[:-1]
    assert 1 <= len(built) <= 2
    assert len({line.split()[0] for line in built}) == len(built)
    assert all(line.split() != [str(os.getpid()), "1"] for line in built)
    assert {line.split()[1] for line in built} == {"1"}


@pytest.mark.parametrize(
    ("fault", "cause"), [(1, "ValueError: broken"), (2, "worker process died"), (3, "timeout")]
)
def test_a_fault_that_passes_is_retried_and_one_that_stays_is_an_outcome(
    pool, tmp_path, fault, cause
):
    evaluator = Evaluator(pool, retries=1)
    once = evaluator.submit(x(fault, 1), "validation").result()
    assert (once.attempts, once.cause) == (2, None)
    assert once.evaluation is not None
    (tmp_path / f"tries-{float(fault)}").unlink()
    innocent = [evaluator.submit(x(0, k), "validation") for k in range(3)]
    always = evaluator.submit(x(fault, 99), "validation").result()
    assert (always.evaluation, always.attempts) == (None, 2)
    assert cause in always.cause
    assert all(pending.result().cause is None for pending in innocent)


def test_scores_that_are_not_finite_are_a_failure_without_retry(tmp_path):
    evaluator = Evaluator(SerialExecutor(Recorder(tmp_path)), retries=1)
    outcome = evaluator.submit(x(4), "validation").result()
    assert (outcome.evaluation, outcome.attempts) == (None, 1)
    assert "not finite: [inf, 0.5]" in outcome.cause


def test_scores_of_a_wrong_shape_are_a_failure_that_names_the_shapes(tmp_path):
    backend = Recorder(tmp_path)
    backend.tasks = [Task("a"), Task("b"), Task("c")]
    outcome = Evaluator(SerialExecutor(backend), retries=0).submit(x(), "test").result()
    assert "scores of shape (1, 2)" in outcome.cause
    assert "(1, 3)" in outcome.cause


def test_threads_are_limited_for_libraries_loaded_and_to_come(monkeypatch):
    import torch

    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    try:
        limit_threads(2)
        assert os.environ["OMP_NUM_THREADS"] == "2"
        assert torch.get_num_threads() == 2
    finally:
        limit_threads(before)
