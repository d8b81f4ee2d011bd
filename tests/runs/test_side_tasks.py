"""Side tasks: scored at the end, reported relative to the base."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from qdmerge.reports import results_markdown, side_tasks_table
from qdmerge.runs import Run
from qdmerge.runs._scores import relative_interval
from tests.runs.conftest import timeless, toy_config


def run(path: Path, **backend: Any) -> dict[str, Any]:
    config = toy_config(evaluations=6, backend={"side_tasks": ("talk", "sums"), **backend})
    return Run.create(config, path).execute()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("side") / "run"
    return path, run(path)


def test_base_experts_average_and_result_are_scored(finished: tuple[Path, dict[str, Any]]) -> None:
    path, results = finished
    reported = results["reported"]
    assert reported["tasks"] == ["talk", "sums"]
    names = [row["name"] for row in reported["rows"]]
    experts = [f"expert:task{k}" for k in range(3)]
    found = ["aggregate"] if results["chosen"] == "aggregate" else ["aggregate", results["chosen"]]
    assert names == ["base", *experts, "average", *found]
    store = Run.open(path).folder.solutions
    identities = {row["name"]: row["solution"] for row in results["candidates"]}
    for row in reported["rows"]:
        distance = float((store.get(identities[row["name"]]) ** 2).sum())
        expected = {"talk": 1 / (1 + distance), "sums": 1 / (1 + 2 * distance)}
        assert row["scores"] == pytest.approx(expected)
        assert row["relative"] == pytest.approx(expected)  # the base scores 1
        assert row["mean"] == pytest.approx(np.mean(list(expected.values())))


def test_they_decide_nothing(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    config = toy_config(evaluations=6)
    plain = Run.create(config, tmp_path / "plain").execute()
    assert plain["reported"] == {}
    assert plain["chosen"] == finished[1]["chosen"]
    assert plain["candidates"] == finished[1]["candidates"]


def test_they_are_scored_once_also_by_a_resumed_run(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, results = finished
    again = Run.open(path).execute()
    assert timeless(again) == timeless(results)
    lines = (path / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    scored = [e["solution"] for e in events if e["event"] == "final" and e["split"] == "reported"]
    identities = {row["name"]: row["solution"] for row in results["candidates"]}
    assert sorted(scored) == sorted({identities[r["name"]] for r in results["reported"]["rows"]})


def test_a_model_that_cannot_be_scored_there_is_told_and_harms_nothing(tmp_path: Path) -> None:
    results = run(tmp_path / "run", side_fails_beyond=1.0)
    rows = {row["name"]: row for row in results["reported"]["rows"]}
    assert "too far out" in rows["expert:task0"]["failed"]
    assert rows["base"]["relative"] == {"talk": 1.0, "sums": 1.0}
    assert "failed on reported" in results_markdown(results)
    assert {row["name"] for row in results["candidates"]} >= set(rows)


def test_intervals_are_of_the_items_and_paired_with_the_base() -> None:
    rng = np.random.default_rng(0)
    base = (rng.random(200) < 0.8).astype(float)
    same = relative_interval([(base, base)], 300, 0)
    assert same == [1.0, 1.0]
    half = relative_interval([(base, base), (base / 2, base)], 300, 0)
    assert half == pytest.approx([0.75, 0.75])
    worse = base.copy()
    worse[np.flatnonzero(base)[:40]] = 0  # a fourth of what the base knew
    low, high = relative_interval([(worse, base)], 2000, 0) or [0, 0]
    share = worse.sum() / base.sum()
    # The standard error of a share of those items that the base gets right.
    error = np.sqrt(share * (1 - share) / base.sum())
    assert low == pytest.approx(share - 1.96 * error, abs=0.01)
    assert high == pytest.approx(share + 1.96 * error, abs=0.01)
    assert relative_interval([(np.ones(1), np.ones(1))], 10, 0) is None
    assert relative_interval([], 10, 0) is None


def test_a_base_with_few_right_has_an_interval_unless_its_resamples_are_often_0() -> None:
    items = np.arange(100)
    five, one = (items < 5).astype(float), (items < 1).astype(float)  # 0 in 0.6 % and in 37 %
    assert relative_interval([(five, five)], 2000, 0) == [1.0, 1.0]
    assert relative_interval([(one, one)], 2000, 0) is None
    # Beside it a task without doubt: the mean is (1 + one more of the base's five) / 2 at most.
    low, high = relative_interval([(five, five), (items < 4, five)], 2000, 0) or [0, 0]
    assert 0.5 < low < 0.9 < high == 1.0


def test_tables_say_why_a_mean_has_no_interval(finished: tuple[Path, dict[str, Any]]) -> None:
    results = json.loads(json.dumps(finished[1]))
    row, note = results["reported"]["rows"][1], "No interval of a mean where the base scores 0"
    row |= {"ci95": {"talk": [0.2, 0.3], "sums": [0.2, 0.3]}, "mean_ci95": None}
    assert note in results_markdown(results)
    row["mean_ci95"] = [0.1, 0.4]
    assert note not in results_markdown(results)
    row |= {"ci95": {"talk": None, "sums": [0.2, 0.3]}, "mean_ci95": None}
    assert note not in results_markdown(results)  # one item, as the task's own column shows


def test_tables_show_scores_and_what_is_left_of_the_base(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    results = json.loads(json.dumps(finished[1]))
    results["reported"]["rows"][1] |= {
        "scores": {"talk": 0.25, "sums": 0.5},
        "ci95": {"talk": [0.2, 0.3], "sums": None},
        "relative": {"talk": 0.25, "sums": None},
        "mean": 0.25,
        "mean_ci95": [0.125, 0.375],
    }
    results["reported"]["rows"][0]["scores"]["sums"] = 0.0
    note = "Not in the mean, since the base scores 0 there: sums."
    page = results_markdown(results)
    cells = "0.250 (0.200\u20130.300) | 0.250 | 0.500 | \u2013 | 0.250 (0.125\u20130.375) |"
    assert f"| expert:task0 | {cells}" in page
    assert note in page
    assert note not in results_markdown(finished[1])
    text = io.StringIO()
    Console(width=120, file=text).print(side_tasks_table(results))
    assert "0.250 (0.125\u20130.375)" in text.getvalue()
    assert note in text.getvalue()
    assert side_tasks_table({**results, "reported": {}}) is None
    assert "Side tasks:" not in results_markdown({**results, "reported": {}})
