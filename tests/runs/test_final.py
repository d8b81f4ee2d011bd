"""The end of a run: who is a candidate, what is picked, and what is tested."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qdmerge.backend import Task
from qdmerge.errors import ConfigError
from qdmerge.runs import Run, RunFolder, read_events
from qdmerge.runs._building import final_criteria
from qdmerge.runs._final import elites
from qdmerge.search import Elite
from qdmerge.settings import FinalConfig, load_config


def execute(path: Path, *settings: str) -> dict[str, Any]:
    config = load_config(
        "toy", ["evaluations=12", "final.leading=2", "final.bootstrap=100", *settings]
    )
    return Run.create(config, path).execute()


def best(results: dict[str, Any], number: Any) -> str:
    return max(results["held_out"], key=lambda one: number(list(one["selection"].values())))["name"]


def test_every_criterion_has_its_pick(tmp_path):
    weights = "final.weights={task0: 1, task2: 3}"
    results = execute(tmp_path / "run", weights)
    assert results["picks"]["mean"] == best(results, np.mean)
    assert results["picks"]["minimum"] == best(results, min)
    assert results["picks"]["weights"] == best(results, lambda s: s[0] + 3 * s[2])
    assert results["chosen"] == results["picks"]["geometric_mean"]


def test_every_criterion_has_its_leaders_and_the_mean_decides_between_equals():
    scores = [(1.0, 0.0), (0.6, 0.3), (0.36, 0.4), (0.45, 0.4), (0.0, 0.85)]
    models = [
        Elite(np.array([float(k)]), {"a": a, "b": b}, np.empty(0))
        for k, (a, b) in enumerate(scores)
    ]
    search: Any = SimpleNamespace(
        tasks=["a", "b"],
        elites=lambda task: models,
        backend=SimpleNamespace(space=SimpleNamespace(seeds={"base": models[0].x})),
    )
    tasks = [Task(name, "score", (0.0, 1.0)) for name in "ab"]
    criteria = final_criteria(FinalConfig(weights={"b": 1.0}), tasks)

    def found(**how: Any) -> dict[str, int]:
        return {one.name: int(one.x[0]) for one in elites(search, 2, criteria, **how)}

    assert found() == {
        "best:a": 0, "best:b": 4, "mean:1": 0, "mean:2": 1, "gmean:1": 3, "gmean:2": 1,
        "minimum:1": 3, "minimum:2": 2, "weights:1": 4, "weights:2": 3,
    }  # fmt: skip
    assert found(children=True)["mean:1"] == 1


def test_picks_tests_nothing_but_the_picks(tmp_path):
    full = execute(tmp_path / "full")
    picks = execute(tmp_path / "picks", "final.table=picks")
    assert picks["picks"] == full["picks"]
    assert picks["held_out"] == full["held_out"]
    tested = {row["name"]: row for row in full["candidates"]}
    assert {row["name"] for row in picks["candidates"]} == set(picks["picks"].values())
    for row in picks["candidates"]:
        assert row == tested[row["name"]]
    events = read_events(RunFolder(tmp_path / "picks").log)
    assert sum(e["event"] == "final" and e["split"] == "test" for e in events) == len(
        {row["solution"] for row in picks["candidates"]}
    )


def test_incumbents_rise_on_validation_and_are_told_by_selection(tmp_path):
    results = execute(tmp_path / "run", "final.table=picks", "evaluations=20")
    events = read_events(RunFolder(tmp_path / "run").log)
    scores: dict[str, list[float]] = {}
    solutions: dict[tuple[int, int], str] = {}
    for event in events:
        if event["event"] == "ask":
            solutions |= {(event["batch"], n): x for n, x in enumerate(event["solutions"])}
        if event["event"] == "scores":
            scores[solutions[event["batch"], event["index"]]] = event["scores"]
    values = [np.prod(scores[one["solution"]]) for one in results["incumbents"]]
    assert values == sorted(set(values))
    assert values[-1] == max(np.prod(row) for row in scores.values())
    at = [one["evaluations"] for one in results["incumbents"]]
    assert at == sorted(at)
    assert at[-1] <= 20


@pytest.mark.parametrize(
    ("candidates", "kinds", "experts"),
    [
        ("all", {"aggregate", "elite"}, True),
        ("elites", {"elite"}, True),
        ("children", {"elite"}, False),
    ],
)
def test_what_is_chosen_among(tmp_path, candidates, kinds, experts):
    results = execute(tmp_path / "run", f"final.candidates={candidates}", "final.leading=12")
    searched = [row for row in results["candidates"] if row["kind"] in ("aggregate", "elite")]
    assert {row["kind"] for row in searched} == kinds
    seeds = {row["solution"] for row in results["candidates"] if row["kind"] == "expert"}
    assert bool(seeds & {row["solution"] for row in searched}) == experts


def test_a_run_starts_from_recipes(tmp_path):
    execute(
        tmp_path / "run",
        "start=[average, {recipe: task_arithmetic, scales: [0.5]}, "
        "{recipe: tilted, tilts: [[1, 0.5]]}]",
    )
    folder = RunFolder(tmp_path / "run")
    asks = [e for e in read_events(folder.log) if e["event"] == "ask"]
    assert len(asks[1]["solutions"]) == 5
    x = folder.solutions.get(asks[1]["solutions"][1])
    space = load_config("toy").backend.build(None).space
    assert np.allclose(x, space.merge([0.5] * 3))
    results = json.loads(folder.results.read_text())
    assert results["evaluations"] == 12  # they count


def test_a_start_with_an_axis_of_another_recipe_is_refused():
    with pytest.raises(ConfigError, match="recipe 'average' has no 'scales'"):
        load_config("toy", ["start=[{recipe: average, scales: [1]}]"])
