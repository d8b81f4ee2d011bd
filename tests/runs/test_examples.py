"""The figures that a backend draws itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from qdmerge_toy import ToyBackend, ToyConfig

from qdmerge.errors import CheckpointError, ConfigError, RunError
from qdmerge.runs import Run
from tests.runs.conftest import timeless, toy_config


@pytest.fixture
def calls(monkeypatch, finished):
    """Every call of the toy's illustrate, and what was in the run's folder then."""
    finished["merge"]  # has its own figures
    seen = []
    real = ToyBackend.illustrate

    def recorded(self, models, folder):
        there = sorted(path.name for path in folder.parent.iterdir())
        seen.append((dict(models), folder, there))
        return real(self, models, folder)

    monkeypatch.setattr(ToyBackend, "illustrate", recorded)
    return seen


def test_a_run_shows_its_models_once_results_and_export_are_there(calls, tmp_path):
    stages = []
    run = Run.create(toy_config(), tmp_path / "run")
    results = run.execute(lambda progress: stages.append(progress.stage))
    ((models, folder, there),) = calls
    assert folder == run.folder.figures
    assert {"results.json", "model", "figures"} <= set(there)
    names = ["base", "expert:task0", "expert:task1", "expert:task2", "average", results["chosen"]]
    assert list(models) == names
    solutions = {row["name"]: row["solution"] for row in results["candidates"]}
    for name, x in models.items():
        np.testing.assert_array_equal(x, run.folder.solutions.get(solutions[name]))
    assert (folder / "plane.png").is_file()
    assert stages[-1] == "drawing examples"
    assert run.warnings == []


def test_the_base_comes_first_whatever_the_order_of_the_seeds(calls, tmp_path, monkeypatch):
    real = ToyBackend.__init__

    def turned(self, config):
        real(self, config)
        self.space.seeds = dict(reversed(self.space.seeds.items()))

    monkeypatch.setattr(ToyBackend, "__init__", turned)
    Run.create(toy_config(), tmp_path / "run").execute()
    names = list(calls[0][0])
    assert names[:4] == ["base", "expert:task2", "expert:task1", "expert:task0"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no\nbrush"), "could not be drawn: ValueError: no brush. The results are"),
        (CheckpointError("no\npaint"), "could not be drawn: no paint. The results are complete"),
        (MemoryError(), "could not be drawn: MemoryError. The results are complete"),
    ],
)
def test_a_run_survives_what_illustrate_raises(finished, tmp_path, monkeypatch, error, told):
    def broken(self, models, folder):
        raise error

    monkeypatch.setattr(ToyBackend, "illustrate", broken)
    run = Run.create(toy_config(), tmp_path / "run")
    results = run.execute()
    assert timeless(results) == timeless(finished["merge"][1])
    assert run.folder.read_results() == results
    assert run.folder.model.is_dir()
    (warning,) = run.warnings
    assert told in warning
    assert f"qdmerge report {run.folder.path} --examples" in warning
    assert "\n" not in warning
    assert not any(event["event"] == "stop" for event in run.folder.read_events())


def test_a_run_survives_when_there_is_no_room_for_figures(tmp_path):
    run = Run.create(toy_config(), tmp_path / "run")
    run.folder.figures.write_text("in the way")
    assert run.execute()["chosen"]
    (warning,) = run.warnings
    assert "FileExistsError" in warning


class Plain:
    """A domain that matches the protocol without its optional part."""

    def __init__(self, toy: ToyBackend) -> None:
        self.tasks, self.measures, self.space = toy.tasks, toy.measures, toy.space
        self.evaluate, self.facts, self.close = toy.evaluate, toy.facts, toy.close

    def export(self, x: np.ndarray, path: Path) -> Path:
        np.save(path.with_suffix(".npy"), x)
        return path.with_suffix(".npy").rename(path)


@pytest.mark.parametrize("inherits", [True, False])
def test_a_backend_without_figures_of_its_own(tmp_path, monkeypatch, inherits):
    if inherits:
        monkeypatch.delattr(ToyBackend, "illustrate")
    else:
        monkeypatch.setattr(ToyConfig, "build", lambda self, space: Plain(ToyBackend(self)))
    stages = []
    run = Run.create(toy_config(), tmp_path / "run")
    run.execute(lambda progress: stages.append(progress.stage))
    assert "drawing examples" not in stages
    assert run.warnings == []
    assert not run.folder.figures.exists()
    with pytest.raises(ConfigError, match="draws no examples.*leave --examples out"):
        run.illustrate()


def test_the_examples_of_a_finished_run_are_drawn_anew(calls, copy_of, finished):
    path, results = finished["merge"]
    copy = copy_of("merge", 10**9)
    (copy / "results.json").write_text(json.dumps(results))
    (copy / "figures" / "plane.png").unlink()
    stages = []
    figures = Run.open(copy).illustrate(lambda progress: stages.append(progress.stage))
    assert figures == [copy / "figures" / "plane.png"]
    assert figures[0].read_bytes() == (path / "figures" / "plane.png").read_bytes()
    assert list(calls[0][0])[-1] == results["chosen"]
    assert stages == ["building the backend", "drawing examples"]


def test_examples_need_results_and_the_run_s_own_models(copy_of, finished, monkeypatch):
    copy = copy_of("merge", 10**9)

    def built(self):
        raise AssertionError("the backend was built in vain")

    with monkeypatch.context() as patch:
        patch.setattr(ToyBackend, "__init__", built)
        with pytest.raises(RunError, match="no results yet.*qdmerge resume"):
            Run.open(copy).illustrate()
    (copy / "results.json").write_text(json.dumps(finished["merge"][1]))
    monkeypatch.setattr(ToyBackend, "facts", lambda self: {"weights": "others"})
    closed = []
    monkeypatch.setattr(ToyBackend, "close", lambda self: closed.append(self))
    with pytest.raises(RunError, match="weights changed since the run began"):
        Run.open(copy).illustrate()
    assert len(closed) == 1
