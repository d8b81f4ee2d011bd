"""``qdmerge export --weights``: a model for any preference among the tasks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.runs import Run, RunFolder, read_history, solution_id

QUICK = ["--set", "final.leading=3", "--set", "final.bootstrap=100"]


def call(*arguments: object) -> tuple[int, str]:
    """Exit code and everything that was printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "run"
    code, output = call("run", "toy", "--evaluations", 20, "--seed", 3, "--out", path, *QUICK)
    assert code == 0, output
    return path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def best_of_all(path: Path, weights: np.ndarray, toy) -> np.ndarray:
    """Validation chooses three of all scored models, selection one of these: evaluated anew."""
    events = RunFolder.open(path).read_events()
    known = {e.solution for e in read_history(events).evaluated}
    known |= {event["solution"] for event in events if event.get("split") == "validation"}
    xs = np.stack([RunFolder.open(path).solutions.get(identity) for identity in sorted(known)])
    by_validation = toy().evaluate(xs, "validation").scores @ weights
    few = xs[np.argsort(-by_validation)[:3]]
    return few[np.argmax(toy().evaluate(few, "selection").scores @ weights)]


@pytest.mark.parametrize("given", ["task0=1", "task1=2, task0=1,task2=1", "task0=.1,task2=.3"])
def test_without_a_plane_the_best_scored_model_is_written(run: Path, toy, given: str) -> None:
    numbers = {part.split("=")[0].strip(): float(part.split("=")[1]) for part in given.split(",")}
    weights = np.array([numbers.get(f"task{k}", 0.0) for k in range(3)]) / sum(numbers.values())
    code, output = call("export", run, "--weights", given, "--to", run.parent / "model")
    assert code == 0, output
    assert f"task0 {weights[0]:.3g}, task1 {weights[1]:.3g}, task2 {weights[2]:.3g}" in output
    x = np.load(run.parent / "model" / "model.npy")
    assert solution_id(x) == solution_id(best_of_all(run, weights, toy))
    value = toy().evaluate(x[None], "selection").scores[0] @ weights
    assert "Best on selection by these weights: " in output
    assert f" {value:.4f} (then" in output


@pytest.fixture(scope="module")
def with_plane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "run"
    start = "start=[{recipe: plane, steps: 60, samples: 4}]"
    code, output = call(
        "run", "toy", "--evaluations", 12, "--out", path, "--set", start,
        "--set", "final.leading=1", "--set", "final.bootstrap=100",
    )  # fmt: skip
    assert code == 0, output
    return path


def plane_and_best(path: Path, weights: np.ndarray, toy) -> np.ndarray:
    """The plane's point from the corners on disk, and the model that is best on validation."""
    folder = RunFolder.open(path)
    history = read_history(folder.read_events())
    corners = np.load(path / "solutions" / f"{history.corners}.npy")
    known = {e.solution for e in history.evaluated} | {e["solution"] for e in history.final}
    xs = np.stack([folder.solutions.get(identity) for identity in sorted(known)])
    best = xs[np.argmax(toy().evaluate(xs, "validation").scores @ weights)]
    return np.stack([np.clip(weights @ corners, -2, 2), best])


@pytest.mark.parametrize(("first", "better"), [(0, 1), (0.1, 0), (0.2, 0), (0.7, 1)])
def test_the_plane_or_a_better_model_is_written(
    with_plane: Path, tmp_path: Path, toy, first: float, better: int
) -> None:
    run = shutil.copytree(with_plane, tmp_path / "run")
    weights = np.array([first, 1 - first, 0.0])
    given = f"task0={weights[0]},task1={weights[1]}"
    xs = plane_and_best(run, weights, toy)
    code, output = call("export", run, "--weights", given, "--to", tmp_path / "model")
    assert code == 0, output
    values = toy().evaluate(xs, "selection").scores @ weights
    x = np.load(tmp_path / "model" / "model.npy")
    np.testing.assert_allclose(x, xs[better], atol=1e-12)
    assert f"the plane at these weights {values[0]:.4f}" in output
    assert f"{values[better]:.4f} (then " in output


def test_scores_are_kept_in_the_log_and_cost_the_run_no_time(run: Path) -> None:
    before = read_history(RunFolder.open(run).read_events())
    call("export", run, "--weights", "task0=3,task1=1")
    once = read_history(RunFolder.open(run).read_events())
    assert (run / "export-task0=0.75,task1=0.25" / "model.npy").is_file()
    call("export", run, "--weights", "task0=3,task1=1", "--to", run / "again")
    twice = read_history(RunFolder.open(run).read_events())
    assert len(before.final) < len(once.final) == len(twice.final)
    assert twice.session_seconds[: len(before.session_seconds)] == before.session_seconds
    first = json.loads((run / "results.json").read_text())
    assert call("resume", run)[0] == 0
    again = json.loads((run / "results.json").read_text())
    for results in (first, again):
        del results["seconds"], results["evaluations_after_search"]
    assert first == again


def test_a_run_that_was_killed_gives_its_best_model_so_far(run: Path, toy) -> None:
    log = run / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    cut = [n for n, line in enumerate(lines) if b'"event":"tell"' in line][7]
    log.write_bytes(b"".join(lines[: cut + 1]))
    (run / "results.json").unlink()
    shutil.rmtree(run / "model")
    weights = np.array([0.5, 0.5, 0.0])
    expected = best_of_all(run, weights, toy)
    code, output = call("export", run, "--weights", "task0=1,task1=1", "--to", run.parent / "model")
    assert code == 0, output
    np.testing.assert_array_equal(np.load(run.parent / "model" / "model.npy"), expected)
    assert call("resume", run)[0] == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("task0", "weights are of the form TASK=NUMBER,TASK=NUMBER; got 'task0'"),
        ("", "weights are of the form TASK=NUMBER,TASK=NUMBER; got ''"),
        ("tsk1=1", "unknown task 'tsk1'; did you mean 'task1'? Tasks: task0, task1, task2"),
        ("task0=1,task0=2", "task 'task0' is there twice"),
        ("task0=much", "'much' of task 'task0' is not a number"),
        ("task0=1,task1=-1", "at least 0; task 'task1' has -1"),
        ("task0=inf", "at least 0; task 'task0' has inf"),
        ("task0=nan", "at least 0; task 'task0' has nan"),
        ("task0=0,task1=0", "at least one must be positive"),
    ],
)
def test_mistaken_weights_are_one_line(finished: Path, given: str, told: str) -> None:
    code, output = call("export", finished, "--weights", given)
    assert (code, output.count("\n")) == (2, 1), output
    assert told in output


def test_weights_and_a_name_exclude_each_other(finished: Path) -> None:
    code, output = call("export", finished, "best:task0", "--weights", "task0=1")
    assert (code, "choose 'best:task0' or --weights, not both" in output) == (2, True)


def test_a_run_without_scores_says_so(run: Path) -> None:
    (run / "events.jsonl").write_bytes(b"")
    code, output = call("export", run, "--weights", "task0=1")
    assert (code, "has not begun" in output) == (2, True), output


def test_scores_of_other_models_are_not_mixed(run: Path) -> None:
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("dim: 4", "dim: 5"))
    code, output = call("export", run, "--weights", "task0=1")
    assert (code, "another configuration" in output) == (2, True), output


def test_a_model_that_fails_is_left_out_and_told(run: Path, monkeypatch) -> None:
    from qdmerge_toy import ToyBackend

    sound = ToyBackend.evaluate
    first: list[bytes] = []

    def evaluate(self, xs, split):
        if split == "selection" and xs.tobytes() in (first or [xs.tobytes()]):
            first.append(xs.tobytes())
            raise ValueError("broken")
        return sound(self, xs, split)

    monkeypatch.setattr(ToyBackend, "evaluate", evaluate)
    log = run / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(line for line in lines if b'"split"' not in line))
    code, output = call("export", run, "--weights", "task0=1", "--to", run.parent / "model")
    assert code == 0, output
    assert "could not be evaluated on selection: ValueError: broken" in output
    assert Run.open(run).folder.read_results()["chosen"]
