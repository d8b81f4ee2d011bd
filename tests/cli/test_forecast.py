"""`qdmerge forecast`, as a user meets it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from qdmerge_toy import ToyBackend, ToyConfig
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.guide import Climb, draw_rows
from qdmerge.runs._forecast import _sentence, _verdict


def call(*arguments: object) -> tuple[int, str, str]:
    """Exit code, what was printed, and what was told beside it."""
    result = CliRunner().invoke(app, ["forecast", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.stdout, result.stderr


def as_json(*arguments: object) -> dict[str, Any]:
    code, output, error = call(*arguments, "--json")
    assert code == 0, error
    found: dict[str, Any] = json.loads(output)
    return found


def gmean(scores: np.ndarray) -> float:
    return float(np.exp(np.log(scores).mean()))


def test_a_forecast_holds_what_the_backend_scores() -> None:
    found = as_json("toy", "--steps", 6)
    backend = ToyBackend(ToyConfig())

    def scores(x: np.ndarray) -> np.ndarray:
        return backend.evaluate(x[None], "validation").scores[0]

    peaks = backend.peaks
    merges = {scale: scale * peaks.sum(axis=0) for scale in [1 / 3, *np.arange(2, 11) / 10]}
    scale = max(merges, key=lambda one: gmean(scores(merges[one])))
    climb = Climb((1 / 3,) * 3, 6, 0.1)
    guided, _ = climb(backend.guide, backend.space, merges[scale])
    expected = {
        "base": scores(np.zeros(4)),
        "own": np.array([scores(peak)[k] for k, peak in enumerate(peaks)]),
        "average": scores(peaks.mean(axis=0)),
        "uniform": scores(merges[scale]),
        "guided": scores(guided),
    }
    assert found["scale"] == pytest.approx(scale)
    tasks = ["task0", "task1", "task2"]
    for name, own in expected.items():
        assert found["scores"][name] == pytest.approx(dict(zip(tasks, own, strict=True)))
        assert found["together"][name] == pytest.approx(gmean(own))
    gained = expected["own"] - expected["base"]
    assert [found["headroom"][task] for task in tasks] == pytest.approx(
        list(expected["own"] - expected["uniform"])
    )
    assert [found["kept"]["guided"][task] for task in tasks] == pytest.approx(
        list((expected["guided"] - expected["base"]) / gained)
    )
    assert found["cost"]["evaluations"] == 1 + 3 + 1 + 9 + 1
    assert found["cost"]["passes"] == 6 + 4


def test_experts_are_compared_by_scores_and_by_losses() -> None:
    found = as_json("toy", "--steps", 1)
    backend = ToyBackend(ToyConfig())
    rows = draw_rows(backend.guide.sizes, ["task0", "task1", "task2"], 72, 0, 0)

    def loss(x: np.ndarray, task: int) -> float:
        name = f"task{task}"
        return backend.guide.gradient(x, {name: rows[name]}, {name: 1.0})[0][name]

    peaks, base = backend.peaks, np.zeros(4)
    assert [one["tasks"] for one in found["pairs"]] == [
        ["task0", "task1"], ["task0", "task2"], ["task1", "task2"],
    ]  # fmt: skip
    for one, (a, b) in zip(found["pairs"], ((0, 1), (0, 2), (1, 2)), strict=True):
        assert one["scores"] == pytest.approx([
            backend.evaluate(peaks[[a]], "validation").scores[0, b],
            backend.evaluate(peaks[[b]], "validation").scores[0, a],
        ])  # fmt: skip
        expected = [
            (loss(peaks[x], y) - loss(peaks[y], y)) / (loss(base, y) - loss(peaks[y], y))
            for x, y in ((a, b), (b, a))
        ]
        assert one["disagreement"] == pytest.approx(expected)


def test_without_a_guide_there_are_no_steps_and_it_is_said() -> None:
    code, output, _ = call("toy", "--set", "backend.has_guide=false")
    assert code == 0
    assert "Backend toy has no guide, so no guided steps were taken." in output
    assert "disagreement" not in output
    assert "Merging is unlikely to pay: " in output
    assert "worse than the base on task1, task2" in output
    assert "Cost: 14 evaluations" in output
    found = as_json("toy", "--set", "backend.has_guide=false")
    assert ("guided" in found["scores"], found["steps"], found["cost"]["passes"]) == (False, 0, 0)
    assert all(one["disagreement"] == [None, None] for one in found["pairs"])


def test_output_is_the_same_twice_and_json_stands_alone() -> None:
    first, second = (as_json("toy", "--steps", 3) for _ in range(2))
    for one in (first, second):
        assert {one["cost"].pop(name) > 0 for name in ("evaluating", "guiding", "all")} == {True}
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tyo"], "neither a file nor a preset"),
        (["toy", "--set", "backend.n_tasks=1"], "needs at least two experts to merge, and backend"),
        (["toy", "--set", "space=core"], "has a space of its own"),
        (["toy", "--set", "backend.faulty_seeds=true"], "base could not be evaluated: ValueError"),
        (["toy", "--set", "backend.guide_fault=0.5"], "the guide's loss is 0.5"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str) -> None:
    code, output, error = call(*arguments)
    assert code in (1, 2)
    assert output == ""
    (line,) = [line for line in error.splitlines() if line.startswith("Error:")]
    assert message in line
    assert error.splitlines()[-1] == line


def test_a_space_that_merges_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("qdmerge_toy.ToySpace.merge")
    code, _, error = call("toy")
    assert code == 2
    assert "backend 'toy' has 'vector', which has no method 'merge'" in error


def told(
    base: float, single: float, uniform: list[float], guided: list[float]
) -> Mapping[str, Any]:
    """A forecast of two tasks whose own experts have 1."""
    names = {"base": [base] * 2, "own": [1.0] * 2, "average": uniform, "uniform": uniform}
    models = {name: dict(zip("ab", one, strict=True)) for name, one in names.items()}
    models |= {"guided": dict(zip("ab", guided, strict=True))} if guided else {}
    together = {name: math.prod(one.values()) ** 0.5 for name, one in models.items()}
    together["single"] = single
    return {
        "criterion": "geometric_mean",
        "scale": 0.5,
        "steps": 30 if guided else 0,
        "single": "expert a",
        "scores": models,
        "together": together,
        "verdict": _verdict(models, together),
    }


@pytest.mark.parametrize(
    ("forecast", "verdict", "says"),
    [
        (told(0.9, 0.985, [0.9, 0.9], []), "one", "Merging can hardly pay: expert a alone"),
        (told(0.3, 0.5, [0.9, 0.95], [0.99, 0.99]), "uniform", "keeps 90% or more"),
        (told(0.3, 0.5, [0.6, 0.95], [0.8, 0.9]), "guided", "80% or more of every own expert"),
        (told(0.3, 0.5, [0.51, 0.51], [0.525, 0.525]), "guided", "guided steps from it 0.525"),
        (told(0.3, 0.5, [0.6, 0.6], [0.61, 0.61]), "search", "--search recommended"),
        (told(0.3, 0.5, [0.6, 0.6], []), "search", "(x 0.5) 0.600"),
        (told(0.3, 0.5, [0.51, 0.51], [0.4, 0.4]), "no", "30 guided steps 0.400;"),
        (told(0.5, 0.5, [0.4, 0.9], [0.4, 0.95]), "no", "is worse than the base on a;"),
        (told(0.4, 0.5, [0.3, 0.9], [0.6, 0.9]), "guided", "search with --set 'start=[guided]'"),
    ],
)
def test_verdicts(forecast: Mapping[str, Any], verdict: str, says: str) -> None:
    assert forecast["verdict"] == verdict
    sentence = _sentence(forecast)
    assert says in sentence
    assert sentence.count(". ") == 0
    assert sentence.endswith(".")
