"""Batches told as they end: no worker waits for the slowest, and a resume is exact."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from qdmerge.errors import ConfigError
from qdmerge.execution import SerialExecutor
from qdmerge.runs import Run, read_events
from tests.runs.conftest import essence, timeless, toy_config


class Shuffled:
    """Ends one of the evaluations under way at a time, any of them; some fail once."""

    def __init__(self, inner: SerialExecutor) -> None:
        self._inner, self._random = inner, random.Random(3)
        self._open: list[tuple[Future[Any], tuple[Any, ...]]] = []
        self._ready = threading.Semaphore(0)
        self._failed = False
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, *what: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._open.append((future, what))
        self._ready.release()
        return future

    def _work(self) -> None:
        while self._ready.acquire():
            time.sleep(0.005)  # for others to be submitted
            future, what = self._open.pop(self._random.randrange(len(self._open)))
            if not self._failed and len(self._open) > 1:
                self._failed = True
                future.set_exception(OSError("a node is gone"))
            else:
                future.set_result(self._inner.submit(*what).result())

    def close(self) -> None: ...


@pytest.fixture
def shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "_executor", lambda self, backend: Shuffled(SerialExecutor(backend)))


def config(order: str) -> Any:
    execution = {"workers": 4, "in_flight": 6, "order": order}
    return toy_config(24, execution=execution)


def told(events: list[dict[str, Any]]) -> list[int]:
    return [event["batch"] for event in events if event["event"] == "tell"]


@pytest.mark.usefixtures("shuffled")
def test_batches_are_told_as_they_end_and_the_log_keeps_the_order(tmp_path) -> None:
    results = Run.create(config("finished"), tmp_path / "run").execute()
    events = read_events(tmp_path / "run" / "events.jsonl")
    assert told(events) != sorted(told(events))
    assert results["evaluations"] == 24
    assert results["failed"] == 0
    whole = (tmp_path / "run" / "events.jsonl").read_bytes()
    (tmp_path / "run" / "results.json").unlink()
    assert timeless(Run.open(tmp_path / "run").execute()) == timeless(results)

    generator = random.Random(5)
    for cut in generator.sample(range(whole.index(b"\n") + 1, len(whole)), 6):
        (tmp_path / "run" / "results.json").unlink()
        (tmp_path / "run" / "events.jsonl").write_bytes(whole[:cut])
        before = told(read_events(tmp_path / "run" / "events.jsonl"))
        resumed = Run.open(tmp_path / "run").execute()
        after = told(read_events(tmp_path / "run" / "events.jsonl"))
        assert after[: len(before)] == before
        assert len(after) == len(set(after)) == len(told(events))
        assert resumed["evaluations"] == 24


@pytest.mark.usefixtures("shuffled")
def test_told_as_asked_the_order_of_endings_changes_nothing(tmp_path, monkeypatch) -> None:
    one = Run.create(config("asked"), tmp_path / "one").execute()
    monkeypatch.setattr(Run, "_executor", lambda self, backend: SerialExecutor(backend))
    two = Run.create(config("asked"), tmp_path / "two").execute()
    assert timeless(one) == timeless(two)
    logs = [essence(read_events(tmp_path / name / "events.jsonl")) for name in ("one", "two")]
    other = ("attempts", "began", "seconds")
    plain = [[{k: v for k, v in e.items() if k not in other} for e in log] for log in logs]
    assert plain[0] == plain[1]


def test_it_needs_workers() -> None:
    with pytest.raises(ConfigError, match="'order: finished' needs 'workers' of at least 2"):
        toy_config(execution={"order": "finished"})
