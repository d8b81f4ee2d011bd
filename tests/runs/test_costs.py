"""What runs cost, and budgets of seconds."""

from __future__ import annotations

import shutil
import time
from itertools import accumulate

import pytest
from qdmerge_toy import ToyGuide

from qdmerge.errors import ConfigError
from qdmerge.runs import Run, read_events, read_history
from qdmerge.storage import built_once, cache_dir
from tests.runs.conftest import STARTS, essence, toy_config

SECONDS = 0.25


def children(path):
    """Seconds of evaluating and guiding of each child, as the log tells."""
    return [
        event["seconds"] + event.get("guiding", 0)
        for event in read_events(path / "events.jsonl")
        if event["event"] == "scores" and event["batch"] >= 0
    ]


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    path = tmp_path_factory.mktemp("limited") / "run"
    config = toy_config(60, "guided", seconds=SECONDS, backend={"delay": 0.02})
    return path, Run.create(config, path).execute()


def test_a_search_ends_after_the_batch_that_spends_its_seconds(limited):
    path, results = limited
    *before, spent = accumulate(children(path))
    assert spent > SECONDS
    last = [e["batch"] for e in read_events(path / "events.jsonl") if e["event"] == "ask"][-1]
    ended = [e for e in read_events(path / "events.jsonl") if e["event"] == "scores"]
    first_of_last = sum(0 <= event["batch"] < last for event in ended)
    assert before[first_of_last - 1] <= SECONDS
    assert results["evaluations"] == len(before) + 1 < 60


@pytest.mark.parametrize("lines", [0.5, 0.8, "search"])
def test_a_resumed_search_counts_what_it_had_spent(limited, tmp_path, lines):
    path, results = limited
    whole = (path / "events.jsonl").read_bytes().splitlines(keepends=True)
    kinds = [event["event"] for event in read_events(path / "events.jsonl")]
    searched = max(n for n, kind in enumerate(kinds) if kind == "tell") + 1
    kept = searched if lines == "search" else int(lines * searched)
    shutil.copytree(path, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    (tmp_path / "run" / "events.jsonl").write_bytes(b"".join(whole[:kept]))
    again = Run.open(tmp_path / "run").execute()
    assert sum(children(tmp_path / "run")) > SECONDS
    if lines == "search":
        assert again["evaluations"] == results["evaluations"]
        events = [essence(read_events(one / "events.jsonl")) for one in (path, tmp_path / "run")]
        assert events[0] == events[1]


def test_a_search_without_emitters_ends_after_its_start(tmp_path):
    config = toy_config(99, "guided", parts=[])
    results = Run.create(config, tmp_path / "run").execute()
    assert results["evaluations"] == config.start[0].size(3, 3) == 2 + 2 + 3 + 3
    with pytest.raises(ConfigError, match="'emitters' is empty, and so is 'start'"):
        toy_config(9, "merge", parts=[])


@pytest.mark.parametrize("name", STARTS)
def test_the_size_of_a_start_is_what_it_evaluates(tmp_path, name):
    config = toy_config(99, name, parts=[], backend={"n_tasks": 2})
    results = Run.create(config, tmp_path / "run").execute()
    assert results["evaluations"] == config.start[0].size(2, 2)


def test_what_was_prepared_once_counts_in_every_run(tmp_path, monkeypatch):
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path / "cache"))

    def prepare(self, progress=None):
        built_once(cache_dir() / "said", lambda folder: time.sleep(0.2), "Answers")

    monkeypatch.setattr(ToyGuide, "prepare", prepare)
    for name in ("first", "again"):
        Run.create(toy_config(10, "guided"), tmp_path / name).execute()
    prepared = [
        event["seconds"]
        for name in ("first", "again")
        for event in read_events(tmp_path / name / "events.jsonl")
        if event["event"] == "prepared"
    ]
    assert len(prepared) == 2
    assert prepared == pytest.approx([0.2, 0.2], abs=0.15)
    Run.create(toy_config(10, "merge"), tmp_path / "other").execute()
    results = Run.open(tmp_path / "other").folder.read_results()
    assert results["seconds"]["preparing"] == 0


@pytest.mark.parametrize("seconds", [0, -1, float("inf")])
def test_a_budget_of_no_seconds_is_refused(seconds):
    with pytest.raises(ConfigError, match="seconds"):
        toy_config(9, seconds=seconds)


def test_children_are_counted_as_their_outcomes_come(finished):
    """At each tell, as many as the log up to there has outcomes of."""
    path, _ = finished["merge"]
    events = read_events(path / "events.jsonl")
    told = [place for place, event in enumerate(events) if event["event"] == "tell"]
    counts = [count for count, _ in read_history(events).stats]
    assert counts == [read_history(events[: place + 1]).n_children for place in told]
    assert counts[-1] == 12
