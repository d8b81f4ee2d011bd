"""Runs that start from a plane: learned once, kept by content, taken from the log ever after."""

from __future__ import annotations

import numpy as np
import pytest

from qdmerge.errors import RunError
from qdmerge.guide import PlaneClimb, spread_weights
from qdmerge.runs import Run, RunFolder, read_events, read_history
from tests.runs.conftest import STARTS, timeless, toy_config


def test_its_samples_are_the_first_children(finished, toy):
    path, results = finished["plane"]
    folder = RunFolder.open(path)
    events = folder.read_events()
    asks = [event for event in events if event["event"] == "ask"]
    assert [len(ask["solutions"]) for ask in asks[1:4]] == [2, 1, 4]
    told = {(e["batch"], e["index"]): e for e in events if e["event"] == "scores"}
    uniform = [np.prod(told[0, k]["scores"]) for k in range(2)]
    assert asks[2]["solutions"] == [asks[1]["solutions"][int(np.argmax(uniform))]]
    assert told[1, 0]["passes"] == results["gradient_passes"] == 20

    backend, x0 = toy(), folder.solutions.get(asks[2]["solutions"][0])
    plane, _ = PlaneClimb(steps=20)(backend.guide, backend.space, x0)
    found = read_history(events).plane(backend.space, folder.solutions)
    np.testing.assert_array_equal(found.corners, plane.corners)
    samples = [told[1, 0]["improved"], *asks[3]["solutions"]]
    xs = np.stack([folder.solutions.get(identity) for identity in samples])
    np.testing.assert_array_equal(xs, [plane.at(w) for w in spread_weights(3, 5)])
    scores = [told[1, 0]["scores"], *(told[2, k]["scores"] for k in range(4))]
    np.testing.assert_array_equal(scores, backend.evaluate(xs, "validation").scores)


def test_a_resumed_run_learns_no_plane_again(finished, copy_of, monkeypatch):
    path, results = finished["plane"]
    log = (path / "events.jsonl").read_bytes()
    copy = copy_of("plane", log.index(b"\n", log.index(b'"plane":')) + 1)
    monkeypatch.setattr("qdmerge_toy.ToyGuide.gradient", lambda *args: pytest.fail("recomputed"))
    assert timeless(Run.open(copy).execute()) == timeless(results)


def test_a_torn_plane_is_noticed(finished, copy_of):
    events = read_events(finished["plane"][0] / "events.jsonl")
    (identity,) = (event["plane"] for event in events if "plane" in event)
    copy = copy_of("plane", (finished["plane"][0] / "events.jsonl").stat().st_size)
    corners = copy / "solutions" / f"{identity}.npy"
    corners.write_bytes(corners.read_bytes()[:-8])
    with pytest.raises(RunError, match=f"{identity}.npy cannot be read"):
        Run.open(copy).execute()


def test_without_a_plane_the_run_goes_on(tmp_path):
    start = STARTS["plane"] | {"steps": 100}
    config = toy_config(9, "plane", backend={"guide_fault": float("inf")}, start=[start])
    results = Run.create(config, tmp_path / "run").execute()
    history = read_history(read_events(tmp_path / "run" / "events.jsonl"))
    (failed,) = (model.cause for model in history.evaluated if model.cause)
    assert failed == "EvaluationError: the guide's loss is inf"
    assert (results["evaluations"], results["failed"], history.corners) == (9, 1, None)


@pytest.mark.parametrize(
    ("option", "value"), [("concentration", 0), ("samples", 0), ("rate", -1), ("steps", 0)]
)
def test_options_out_of_bounds_are_told(option, value):
    with pytest.raises(Exception, match=f"{option}.*greater than"):
        toy_config(9, "plane", start=[STARTS["plane"] | {option: value}])
