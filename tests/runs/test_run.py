"""Runs from configuration to results: choice, failures, wrong folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml
from qdmerge_toy import ToyBackend, ToyConfig
from scipy.stats import gmean

from qdmerge.errors import ConfigError, EvaluationError, RunError, UnsupportedError
from qdmerge.runs import Run, RunFolder, lookup_solution, read_events, read_history, solution_id
from qdmerge.runs._scores import mean_interval
from qdmerge.settings import RunConfig
from tests.runs.conftest import DQD, timeless, toy_config


def test_two_runs_with_one_seed_are_equal_and_another_seed_differs(finished, tmp_path):
    _, results = finished["merge"]
    again = Run.create(toy_config(), tmp_path / "again").execute()
    assert timeless(again) == timeless(results)
    other = Run.create(toy_config(seed=1), tmp_path / "other").execute()
    assert other["candidates"] != results["candidates"]


@pytest.mark.parametrize("emitters", ["merge", "guided", "plane", *DQD])
def test_results_do_not_depend_on_the_number_of_workers(tmp_path, emitters):
    execution = {"in_flight": 3, "threads": 1}
    serial, pool = (
        Run.create(
            toy_config(16, emitters, execution={**execution, "workers": workers}),
            tmp_path / f"{workers}",
        ).execute()
        for workers in (1, 2)
    )
    apart = ("config", "facts")
    assert {k: v for k, v in timeless(serial).items() if k not in apart} == {
        k: v for k, v in timeless(pool).items() if k not in apart
    }


def test_results_hold_what_they_promise(finished):
    path, results = finished["merge"]
    assert results == RunFolder.open(path).read_results()
    assert set(results) >= {
        "tasks", "candidates", "chosen", "evaluations", "failed", "gradient_passes", "seconds",
        "archives", "seed", "config", "versions",
    }  # fmt: skip
    assert results["evaluations"] == 12
    assert results["failed"] == 0
    assert set(results["seconds"]) == {"total", "evaluating", "guiding", "preparing"}
    for row in results["candidates"]:
        for split in ("validation", "selection", "test"):
            assert list(row[split]) == results["tasks"]
        test = list(row["test"].values())
        assert row["test_mean"] == pytest.approx(np.mean(test))
        assert row["test_gmean"] == pytest.approx(gmean(test))
        assert row["test_min"] == min(test)
        low, high = row["test_mean_ci95"]
        assert low < row["test_mean"] < high
    kinds = {row["kind"] for row in results["candidates"]}
    assert kinds == {"base", "expert", "average", "task_arithmetic", "aggregate", "elite"}


def test_simple_merges_stand_beside_with_the_scale_that_validation_likes(finished):
    path, results = finished["merge"]
    rows = {row["name"]: row for row in results["candidates"]}
    solutions = RunFolder.open(path).solutions
    experts = [solutions.get(rows[f"expert:task{k}"]["solution"]) for k in range(3)]
    assert np.allclose(solutions.get(rows["average"]["solution"]), np.mean(experts, axis=0))
    backend = ToyBackend(ToyConfig())
    scales = results["config"]["final"]["task_arithmetic_scales"]
    merges = np.array([scale * np.sum(experts, axis=0) for scale in scales])
    best = gmean(backend.evaluate(merges, "validation").scores, axis=1).argmax()
    assert rows["task_arithmetic"]["details"] == {"scale": scales[best]}
    assert np.allclose(solutions.get(rows["task_arithmetic"]["solution"]), merges[best])


def test_selection_split_alone_chooses(finished):
    _, results = finished["mixed"]
    searched = [row for row in results["candidates"] if row["kind"] in ("aggregate", "elite")]
    best = max(searched, key=lambda row: gmean(list(row["selection"].values())))
    assert results["chosen"] == best["name"]
    by_test = max(searched, key=lambda row: row["test_gmean"])
    by_validation = max(searched, key=lambda row: gmean(list(row["validation"].values())))
    assert len({row["name"] for row in (best, by_test, by_validation)}) > 1, (
        "the splits agree, so this run cannot tell which one chose"
    )


@pytest.mark.parametrize(
    ("final", "key"),
    [
        ({"choose_by": "mean"}, np.mean),
        ({"choose_by": "minimum"}, min),
        ({"choose_by": "weights", "weights": {"task0": 3, "task2": 1}},
         lambda scores: np.average(scores, weights=[3, 0, 1])),
    ],
)  # fmt: skip
def test_other_criteria_choose(tmp_path, final, key):
    results = Run.create(toy_config(final=final), tmp_path / "run").execute()
    searched = [row for row in results["candidates"] if row["kind"] in ("aggregate", "elite")]
    best = max(searched, key=lambda row: key(list(row["selection"].values())))
    assert results["chosen"] == best["name"]


def test_exported_names_are_those_of_the_results(finished):
    path, results = finished["mixed"]
    folder = RunFolder.open(path)
    for row in results["candidates"]:
        for name in (row["name"], row["solution"]):
            x = lookup_solution(folder, folder.read_config(), name)
            assert solution_id(x) == row["solution"]


def test_a_single_item_has_no_interval():
    assert mean_interval([np.ones(1), np.ones(3)], 100, 0) is None


def test_the_chosen_model_is_exported(finished):
    path, results = finished["merge"]
    chosen = next(row for row in results["candidates"] if row["name"] == results["chosen"])
    assert solution_id(np.load(path / "model" / "model.npy")) == chosen["solution"]


@pytest.mark.parametrize(
    ("fault", "workers", "emitters", "cause"),
    [
        ("raise", 1, "merge", "ValueError: the toy is broken"),
        ("raise", 1, "cma_es", "ValueError: the toy is broken"),
        ("nan", 1, "merge", "scores or measures are not finite"),
        ("nan", 1, "cma_es", "scores or measures are not finite"),
        ("die", 2, "merge", "the worker process died"),
        ("hang", 2, "merge", "longer than execution.timeout"),
    ],
)
def test_failures_are_retried_logged_and_survived(tmp_path, fault, workers, emitters, cause):
    config = toy_config(
        evaluations=9,
        emitters=emitters,
        backend={"fault": fault, "fault_rate": 0.2},
        execution={"workers": workers, "max_failures": 100}
        | ({"timeout": 2.0} if fault == "hang" else {}),
        final={"leading": 1, "bootstrap": 100},
    )
    run = Run.create(config, tmp_path / "run")
    results = run.execute()
    assert results["failed"] >= 1
    assert not set(results["dropped"]) & {row["name"] for row in results["candidates"]}
    history = read_history(run.folder.read_events())
    failed = [model for model in history.evaluated if model.cause]
    assert history.n_children >= 9
    assert failed
    assert all(cause in model.cause for model in failed)
    attempts = [e["attempts"] for e in run.folder.read_events() if e["event"] == "failed"]
    assert set(attempts) == ({1} if fault == "nan" else {2})
    for archive in history.archives(config).values():
        elites = {history.evaluated[int(x)].solution for x in archive.data("solution")[:, 0]}
        assert not elites & {model.solution for model in failed}


def test_candidates_that_fail_are_dropped_with_their_cause(tmp_path):
    fault = {"fault": "nan", "fault_rate": 0.7}
    config = toy_config(seed=1, backend=fault, execution={"max_failures": 100})
    results = Run.create(config, tmp_path / "run").execute()
    assert results["dropped"]
    assert all("not finite" in cause for cause in results["dropped"].values())
    (tmp_path / "run" / "results.json").unlink()
    assert timeless(Run.open(tmp_path / "run").execute()) == timeless(results)


@pytest.mark.parametrize("fact", ["weights", "dtype"])
def test_what_decides_scores_is_noticed_on_resume(finished, copy_of, monkeypatch, fact):
    copy = copy_of("merge", 10**9)
    monkeypatch.setattr(ToyBackend, "facts", lambda self: {fact: "another"})
    with pytest.raises(RunError, match=f"{fact} changed since the run began"):
        Run.open(copy).execute()


def test_too_many_failures_stop_the_run_and_resume_goes_on(tmp_path):
    settings = {"execution": {"max_failures": 3}, "final": {"leading": 1, "bootstrap": 100}}
    config = toy_config(backend={"fault_rate": 1.0}, **settings)
    run = Run.create(config, tmp_path / "run")
    with pytest.raises(RunError, match="3 evaluations failed in a row.*toy is broken.*resume"):
        run.execute()
    history = read_history(run.folder.read_events())
    assert history.n_children == history.n_failed == 3
    assert "failed in a row" in history.stopped
    with pytest.raises(RunError, match="3 evaluations failed in a row"):
        Run.open(tmp_path / "run").execute()
    assert read_history(run.folder.read_events()).n_failed == 6


def test_a_seed_that_fails_stops_the_run_and_is_tried_again(tmp_path):
    config = toy_config(backend={"faulty_seeds": True})
    for _ in range(2):
        run = (
            Run.open(tmp_path / "run")
            if (tmp_path / "run").exists()
            else Run.create(config, tmp_path / "run")
        )
        with pytest.raises(EvaluationError, match="seed 'base' could not be evaluated.*broken"):
            run.execute()
    kinds = [event["event"] for event in run.folder.read_events()]
    assert kinds.count("failed") == 2


def test_equal_scores_everywhere_still_run(tmp_path):
    results = Run.create(toy_config(backend={"flat": True}), tmp_path / "run").execute()
    assert all(stats["elites"] == 1 for stats in results["archives"].values())
    assert results["chosen"]


def test_one_task_with_own_measures_runs(tmp_path):
    config = toy_config(
        backend={"n_tasks": 1, "n_measures": 2}, archive={"name": "grid", "bins": 40}
    )
    results = Run.create(config, tmp_path / "run").execute()
    assert results["archives"]["task0"]["elites"] > 3


def test_one_task_without_measures_is_refused(tmp_path):
    config = toy_config(backend={"n_tasks": 1})
    with pytest.raises(ConfigError, match="only task.*no axis.*measures"):
        Run.create(config, tmp_path / "run").execute()


def test_parts_that_do_not_fit_are_refused_before_anything_is_evaluated(tmp_path):
    config = toy_config(emitters="svd")
    run = Run.create(config, tmp_path / "run")
    with pytest.raises(
        UnsupportedError, match="space 'vector' does not have; use space 'spectral'"
    ):
        run.execute()
    assert run.folder.read_events() == []
    # The mended configuration may use the same folder, since no run began there.
    results = Run.create(toy_config(), tmp_path / "run").execute()
    assert results["evaluations"] == 12


def test_a_space_that_the_backend_would_ignore_is_refused(tmp_path):
    run = Run.create(toy_config(space="layer"), tmp_path / "run")
    with pytest.raises(ConfigError, match="backend 'toy' has a space of its own.*'space: layer'"):
        run.execute()


def test_a_folder_that_holds_a_run_is_never_overwritten(finished, tmp_path):
    path, _ = finished["merge"]
    before = (path / "events.jsonl").read_bytes()
    with pytest.raises(RunError, match="already holds a run.*qdmerge resume"):
        Run.create(toy_config(), path)
    assert (path / "events.jsonl").read_bytes() == before
    for number, mine in enumerate(("precious.txt", "config.yaml")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / mine).write_text("mine")
        with pytest.raises(RunError, match="is not empty"):
            Run.create(toy_config(), folder)
        assert (folder / mine).read_text() == "mine"


def test_a_run_that_is_about_to_begin_keeps_its_configuration(tmp_path):
    run = Run.create(toy_config(), tmp_path / "run")
    with run.folder.locked(), pytest.raises(RunError, match="another process is running"):
        Run.create(toy_config(seed=1), tmp_path / "run")
    assert Run.open(tmp_path / "run").config.seed == 0


def test_a_solution_that_cannot_be_written_is_a_clear_error(tmp_path):
    run = Run.create(toy_config(), tmp_path / "run")
    (tmp_path / "run" / "solutions").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*npy.*resume the run"):
        run.execute()


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the run folder"):
        Run.create(toy_config(), tmp_path / "file" / "run")


def test_a_full_disk_is_refused_before_anything_is_evaluated(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    run = Run.create(toy_config(), tmp_path / "run")
    with pytest.raises(RunError, match="has 1 MiB free, but the run needs"):
        run.execute()
    assert not any(e["event"] == "scores" for e in run.folder.read_events())


def test_a_folder_of_another_format_is_refused(finished, copy_of):
    copy = copy_of("merge", 10**9)
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("format: 2", "format: 99"))
    with pytest.raises(RunError, match="format 99; this qdmerge reads format 2"):
        Run.open(copy)


def test_a_run_whose_settings_were_renamed_since_is_resumed(finished, tmp_path, monkeypatch):
    path, echo = tmp_path / "run", RunConfig.echo

    def former(config):
        data = echo(config)
        data["backend"]["width"] = data["backend"].pop("dim")
        return data

    with monkeypatch.context() as patch:
        patch.setattr(RunConfig, "echo", former)
        Run.create(toy_config(), path).execute()
    (path / "results.json").unlink()
    log = path / "events.jsonl"
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    monkeypatch.setattr(ToyConfig, "renamed", {"width": "dim"})
    assert timeless(Run.open(path).execute()) == timeless(finished["merge"][1])


def test_a_log_of_another_configuration_is_refused(finished, copy_of):
    copy = copy_of("merge", 10**9)
    data = yaml.safe_load((copy / "config.yaml").read_text())
    data["seed"] = 99
    (copy / "config.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(RunError, match="belongs to another configuration"):
        Run.open(copy).execute()


def test_a_log_that_lost_lines_in_its_middle_is_refused(finished, copy_of):
    copy = copy_of("merge", 10**9)
    log = copy / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    asks = [n for n, line in enumerate(lines) if b'"event":"ask"' in line]
    log.write_bytes(b"".join(lines[: asks[3]] + lines[asks[3] + 1 :]))
    with pytest.raises(RunError, match="log"):
        Run.open(copy).execute()


def test_no_run_in_the_folder(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        Run.open(tmp_path)


def test_events_name_the_parents_of_children(finished):
    path, _ = finished["merge"]
    events = [e for e in read_events(path / "events.jsonl") if e["event"] == "ask"]
    known = set(events[0]["solutions"])
    for event in events[1:]:
        for parents in event["parents"]:
            assert len(parents) == 2
            assert set(parents) <= known
        known |= set(event["solutions"])
