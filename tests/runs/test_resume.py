"""A run that was killed and resumed equals one that was never interrupted."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from qdmerge_toy import ToyBackend

from qdmerge.errors import RunError
from qdmerge.runs import Run, RunFolder, read_events, read_history
from tests.runs.conftest import DQD, essence, timeless, toy_config


@pytest.mark.parametrize("emitters", ["merge", "cma_es", "mixed", "guided", "plane", *DQD])
def test_resume_after_any_byte_of_the_log(finished, copy_of, emitters):
    path, results = finished[emitters]
    whole = (path / "events.jsonl").read_bytes()
    begin = whole.index(b"\n") + 1
    cuts = sorted(random.Random(7).sample(range(begin, len(whole)), 8))
    for cut in [*cuts, begin, len(whole) - 1]:
        copy = copy_of(emitters, cut)
        resumed = Run.open(copy).execute()
        assert timeless(resumed) == timeless(results)
        assert essence(read_events(copy / "events.jsonl")) == essence(
            read_events(path / "events.jsonl")
        )


def test_resume_of_a_finished_run_evaluates_nothing(finished, copy_of):
    path, results = finished["merge"]
    size = (path / "events.jsonl").stat().st_size
    copy = copy_of("merge", size)
    assert timeless(Run.open(copy).execute()) == timeless(results)
    kinds = [event["event"] for event in read_events(copy / "events.jsonl")]
    assert kinds.count("scores") == sum(
        event["event"] == "scores" for event in read_events(path / "events.jsonl")
    )
    assert kinds[-1] == "resume"


@pytest.mark.parametrize("damage", ["missing", "empty", "another"])
def test_lost_solutions_are_restored_by_replay(finished, copy_of, damage):
    path, results = finished["merge"]
    copy = copy_of("merge", (path / "events.jsonl").stat().st_size)
    first, *files = sorted((copy / "solutions").iterdir())
    for file in files:
        {
            "missing": file.unlink,
            "empty": lambda file=file: file.write_bytes(b""),
            "another": lambda file=file: shutil.copy(first, file),
        }[damage]()
    assert timeless(Run.open(copy).execute()) == timeless(results)
    for file in sorted((path / "solutions").iterdir()):
        assert (copy / "solutions" / file.name).read_bytes() == file.read_bytes()


def test_a_lost_solution_that_a_guide_made_is_named(finished, copy_of):
    path, _ = finished["guided"]
    copy = copy_of("guided", (path / "events.jsonl").stat().st_size)
    improved = next(e["improved"] for e in read_events(copy / "events.jsonl") if "improved" in e)
    (copy / "solutions" / f"{improved}.npy").unlink()
    with pytest.raises(RunError, match=rf"{improved}.npy cannot be read.*restore it"):
        Run.open(copy).execute()


def test_what_a_kill_left_unfinished_is_removed(finished, copy_of):
    copy = copy_of("merge", (finished["merge"][0] / "events.jsonl").stat().st_size)
    before = {*copy.rglob("*")}
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (copy / f".model-{gone.pid}.partial" / "model").mkdir(parents=True)
    running = copy / f".export-base-{os.getpid()}.partial"
    running.mkdir()
    (copy / "config.yaml.part").write_text("half")
    (copy / "solutions" / "0123456789abcdef.npy.part").write_bytes(b"half")
    Run.open(copy).execute()
    left = {*copy.rglob("*")} - before
    assert [path.name for path in left if "part" in path.name] == [running.name]


def test_a_model_that_is_half_written_is_never_seen(finished, copy_of, monkeypatch):
    def export(self, x, path):
        path.mkdir()
        (path / "model.npy").write_bytes(b"half")
        raise KeyboardInterrupt

    copy = copy_of("merge", (finished["merge"][0] / "events.jsonl").stat().st_size)
    with monkeypatch.context() as patch:
        patch.setattr(ToyBackend, "export", export)
        with pytest.raises(KeyboardInterrupt):
            Run.open(copy).execute()
    assert not [path for path in copy.rglob("*") if "model" in path.name]
    Run.open(copy).execute()
    assert (copy / "model" / "model.npy").stat().st_size > 100


def test_a_log_without_its_start_begins_anew(finished, copy_of):
    copy = copy_of("merge", 20)
    assert timeless(Run.open(copy).execute()) == timeless(finished["merge"][1])


def _start(path: Path, *settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qdmerge.cli", "run", "toy", "--out", str(path)]
    for setting in ("final.leading=2", "final.bootstrap=100", *settings):
        command += ["--set", setting]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A suite that was started in the background ignores Ctrl-C, and so would the run.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _wait_for_children(path: Path, n: int) -> None:
    deadline = time.monotonic() + 300
    log = path / "events.jsonl"
    while time.monotonic() < deadline:
        if log.exists() and read_history(read_events(log)).n_children >= n:
            return
        time.sleep(0.05)
    pytest.fail(f"the run did not evaluate {n} children in time")


@pytest.mark.parametrize("workers", [1, 2])
def test_sigkill_and_resume_equal_an_uninterrupted_run(tmp_path, workers):
    settings = [
        "backend.delay=0.1",
        f"execution.workers={workers}",
        "execution.in_flight=2",
    ]
    killed = _start(tmp_path / "killed", *settings)
    _wait_for_children(tmp_path / "killed", 4)
    family = [*psutil.Process(killed.pid).children(recursive=True)]
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "killed" / "results.json").exists()
    # Workers notice that nobody is left to work for.
    assert not psutil.wait_procs(family, timeout=60)[1]

    resumed = Run.open(tmp_path / "killed").execute()
    whole = Run.create(Run.open(tmp_path / "killed").config, tmp_path / "whole").execute()
    assert timeless(resumed) == timeless(whole)


def test_ctrl_c_finishes_the_log_and_says_how_to_resume(tmp_path):
    process = _start(tmp_path / "run", "backend.delay=0.1")
    _wait_for_children(tmp_path / "run", 3)
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert f"qdmerge resume {tmp_path / 'run'}" in stderr.replace("\n", "")
    assert "Traceback" not in stderr
    events = read_events(tmp_path / "run" / "events.jsonl")
    assert (events[-1]["event"], events[-1]["reason"]) == ("stop", "interrupted")
    assert Run.open(tmp_path / "run").execute()["evaluations"] == 30


def test_other_solutions_than_recorded_are_noticed(copy_of, monkeypatch):
    copy = copy_of("merge", 10**9)
    log = copy / "events.jsonl"
    # Another library version that draws other numbers.
    from qdmerge.operators import LinearCrossover

    def other(self, parents, rng):
        return parents.mean(axis=1) + 1e-9

    monkeypatch.setattr(LinearCrossover, "__call__", other)
    with pytest.raises(RunError, match="another batch 0 than the one recorded"):
        Run.open(copy).execute()
    assert log.exists()


def test_history_rebuilds_the_archives_of_the_search(finished):
    path, results = finished["mixed"]
    folder = RunFolder.open(path)
    history = read_history(folder.read_events())
    archives = history.archives(folder.read_config())
    assert list(archives) == results["tasks"]
    for column, (task, archive) in enumerate(archives.items()):
        expected = results["archives"][task]
        assert len(archive) == expected["elites"]
        assert archive.stats.qd_score == pytest.approx(expected["qd_score"], rel=1e-12)
        for elite in archive:
            model = history.evaluated[int(elite["solution"][0])]
            assert elite["objective"] == model.scores[column]
            assert np.array_equal(elite["measures"], np.delete(model.scores, column))


def test_history_rebuilds_the_cells_of_a_tessellation(tmp_path):
    config = toy_config(archive={"name": "cvt", "centroids": 20, "samples": 200})
    results = Run.create(config, tmp_path / "run").execute()
    archives = read_history(RunFolder.open(tmp_path / "run").read_events()).archives(config)
    for task, archive in archives.items():
        assert len(archive) == results["archives"][task]["elites"]
        assert archive.stats.qd_score == pytest.approx(results["archives"][task]["qd_score"])


def test_a_serial_run_logs_each_test_before_the_next_begins(tmp_path, monkeypatch):
    from qdmerge_toy import ToyBackend

    real, tested = ToyBackend.evaluate, []

    def evaluate(self, xs, split):
        if split == "test":
            finals = [e for e in read_events(tmp_path / "run" / "events.jsonl")
                      if e["event"] == "final" and e["split"] == "test"]  # fmt: skip
            assert len(finals) == len(tested)
            tested.append(1)
        return real(self, xs, split)

    monkeypatch.setattr(ToyBackend, "evaluate", evaluate)
    Run.create(toy_config(), tmp_path / "run").execute()
    assert len(tested) > 3


def test_unfinished_runs_do_not_share_a_folder(tmp_path):
    run = Run.create(toy_config(), tmp_path / "run")
    with run.folder.locked(), pytest.raises(RunError, match="another process is running"):
        Run.open(tmp_path / "run").execute()
