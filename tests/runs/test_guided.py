"""Runs with a guide: climbs in the worker, what the log holds of them, and what can go wrong."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.errors import RunError, UnsupportedError
from qdmerge.runs import Run, RunFolder, read_events, read_history
from tests.runs.conftest import DQD, timeless, toy_config

N_START = 2 + 2 + 3 + 3
"""Uniform merges, stops of the climb, branches and means."""


def test_a_guided_start_climbs_from_the_best_uniform_merge(finished):
    path, _ = finished["guided"]
    events = read_events(path / "events.jsonl")
    asks = [event for event in events if event["event"] == "ask"]
    assert [len(ask["solutions"]) for ask in asks[1:5]] == [2, 2, 3, 3]
    climbs = asks[2]["errands"]
    assert [one["steps"] for one in climbs] == [4, 6]
    assert {one["total"] for one in climbs} == {6}
    told = {(e["batch"], e["index"]): e for e in events if e["event"] == "scores"}
    uniform = [np.prod(told[0, k]["scores"]) for k in range(2)]
    assert asks[2]["solutions"] == [asks[1]["solutions"][int(np.argmax(uniform))]] * 2
    climbed = [told[1, k] for k in range(2)]
    assert max(np.prod(one["scores"]) for one in climbed) > max(uniform)
    # The second stop goes on where the first one was.
    assert [one["passes"] for one in climbed] == [4, 2]
    best = max(climbed, key=lambda one: np.prod(one["scores"]))
    assert asks[3]["solutions"] == [best["improved"]] * 3


def test_archives_and_log_hold_what_was_scored(finished):
    path, results = finished["guided"]
    folder = RunFolder.open(path)
    history = read_history(folder.read_events())
    asked = next(e for e in folder.read_events() if e["event"] == "ask" and e["batch"] == 4)
    child = next(model for model in history.evaluated if model.batch == 4)
    assert child.solution != asked["solutions"][0]
    run = Run.open(path)
    backend = run.config.backend.build(None)
    scores = backend.evaluate(folder.solutions.get(child.solution)[None], "validation").scores[0]
    np.testing.assert_array_equal(scores, child.scores)
    assert results["gradient_passes"] == history.gradient_passes == 6 + 3 * 2 + 2 * 3
    assert results["seconds"]["guiding"] >= 0


def test_a_loss_that_is_not_finite_fails_the_child_and_the_run_goes_on(tmp_path):
    config = toy_config(
        14, "guided", backend={"guide_fault": float("nan")}, execution={"max_failures": 50}
    )
    results = Run.create(config, tmp_path / "run").execute()
    events = read_events(tmp_path / "run" / "events.jsonl")
    causes = {event["cause"] for event in events if event["event"] == "failed"}
    assert causes == {"EvaluationError: the guide's loss is nan"}
    assert 0 < results["failed"] < results["evaluations"]


@pytest.mark.parametrize("guided", ["start", "mutation", *DQD])
def test_a_backend_without_a_guide_is_refused_before_anything_is_evaluated(tmp_path, guided):
    emitters = guided if guided in DQD else "guided"
    config = toy_config(12, emitters, backend={"has_guide": False})
    if guided == "mutation":
        config = config.model_copy(update={"start": []})
    elif guided == "start":
        config = config.model_copy(update={"emitters": toy_config().emitters})
    with pytest.raises(UnsupportedError, match=r"ToyBackend has no guide.*ModuleGuide"):
        Run.create(config, tmp_path / "run").execute()
    assert not read_events(tmp_path / "run" / "events.jsonl")


@pytest.mark.parametrize("emitters", DQD)
def test_a_turn_logs_points_with_their_jacobians_then_children(finished, emitters):
    path, results = finished[emitters]
    folder = RunFolder.open(path)
    events = folder.read_events()
    asks = [event for event in events if event["event"] == "ask"][1:]
    assert [event["task"] for event in asks] == [f"task{n // 2 % 3}" for n in range(len(asks))]
    scored = {(e["batch"], e["index"]): e for e in events if e["event"] == "scores"}
    passes = 0
    for n, ask in enumerate(asks):
        for index, errand in enumerate(ask.get("errands", ())):
            assert (errand["kind"], errand["seed"]) == ("Slopes", ask["batch"])
            assert errand["batch"] == (9 if emitters == "gradient_operator" else 96)
            jacobian = folder.solutions.get(scored[ask["batch"], index]["jacobian"])
            assert jacobian.shape == (3, 4)
            assert jacobian.dtype == np.float32
            passes += 3
        assert bool(ask.get("errands")) == (n % 2 == 0)
    assert results["gradient_passes"] == passes > 0


def test_a_resumed_run_takes_jacobians_from_the_log(finished, copy_of, monkeypatch):
    path, results = finished["gradient_arborescence"]
    events = (path / "events.jsonl").read_bytes().splitlines(keepends=True)
    told = [n for n, line in enumerate(events) if b'"event":"tell"' in line]
    copy = copy_of("gradient_arborescence", sum(map(len, events[: told[-1] + 1])))
    monkeypatch.setattr("qdmerge_toy.ToyGuide.gradient", None)
    assert timeless(Run.open(copy).execute()) == timeless(results)


def test_gradients_that_are_not_finite_fail_the_point_and_the_run_goes_on(tmp_path, monkeypatch):
    from qdmerge_toy import ToyGuide

    real = ToyGuide.gradient

    def gradient(self, x, rows, shares):
        losses, found = real(self, x, rows, shares)
        return losses, np.where(np.abs(x).max() > 0.6, np.nan, found)

    monkeypatch.setattr(ToyGuide, "gradient", gradient)
    config = toy_config(30, "gradient_operator", execution={"max_failures": 50})
    results = Run.create(config, tmp_path / "run").execute()
    causes = {e["cause"] for e in read_events(tmp_path / "run" / "events.jsonl") if "cause" in e}
    assert causes == {"gradients of the guide are not finite"}
    assert 0 < results["failed"] < results["evaluations"] - 5


def test_stock_emitters_that_refuse_bounds_get_a_message(tmp_path):
    emitter = "emitters=[{name: 'ribs.emitters:GradientArborescenceEmitter', sigma0: 1, lr: 1}]"
    command = ["run", "toy", "--out", str(tmp_path / "run"), "--set", emitter]
    result = CliRunner().invoke(app, command)
    assert result.exit_code
    assert "emitter of task 'task0' ('ribs.emitters:GradientArborescenceEmitter'" in " ".join(
        result.output.split()
    )
    assert "Traceback" not in result.output


def test_another_guide_is_noticed_on_resume(copy_of, monkeypatch):
    path = copy_of("guided", 4000)
    monkeypatch.setattr("qdmerge_toy.ToyGuide.key", lambda self: "other items")
    with pytest.raises(RunError, match="guide changed since the run began"):
        Run.open(path).execute()
