"""Comparisons: runs that share workers and evaluations, killed and gone on with."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from qdmerge.compare import Method, Study, find_methods, make_test_beds
from qdmerge.compare._rows import read_rows
from qdmerge.errors import ConfigError, RunError
from qdmerge.runs import Run, read_events
from qdmerge.settings import load_config

QUICK = ["final.leading=1", "final.bootstrap=100"]
METHODS = ("random", "cma_es", "config")


def toy(*settings: str) -> Any:
    return load_config("toy", [*QUICK, *settings])


def study(folder: Path, *settings: str, methods=METHODS, seeds=2, evaluations=12, workers=2):
    return Study(
        {"toy": toy(*settings)},
        find_methods(methods) if not isinstance(methods, dict) else methods,
        seeds=seeds,
        evaluations=evaluations,
        folder=folder,
        workers=workers,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    made = study(tmp_path_factory.mktemp("study") / "out")
    return made, made.execute()


def found(results: dict[str, Any]) -> Any:
    return {key: results[key] for key in ("candidates", "picks", "held_out", "incumbents")}


def test_every_method_and_seed_has_its_run(done):
    made, planned = done
    assert made.failures == {}
    assert [(run.name, run.seed) for run in planned] == [
        (name, seed) for name in METHODS for seed in (0, 1)
    ]
    rows = read_rows(planned, {})
    assert all(row.status == "ok" for row in rows)
    assert {row.method: len(row.evaluated) for row in rows}["random"] == 12
    for row in rows:
        assert set(row.picks) == {"geometric_mean", "mean", "minimum"}
        assert all(pick.items for pick in row.picks.values())
        # What was best by validation comes with scores of the split that was not searched on.
        assert [at for at, _ in row.incumbents] == sorted({at for at, _ in row.incumbents})


def test_a_run_of_a_comparison_is_the_run_alone(done, tmp_path):
    for run in done[1][::2]:
        alone = Run.create(run.config, tmp_path / run.name).execute()
        together = json.loads((run.folder / "results.json").read_text())
        assert found(alone) == found(together)


def test_only_picks_are_tested_and_each_once(done):
    for run in done[1]:
        results = json.loads((run.folder / "results.json").read_text())
        tested = [row["name"] for row in results["candidates"]]
        assert sorted(tested) == sorted(set(results["picks"].values()))
        assert not any(row["kind"] in ("base", "expert") for row in results["candidates"])


def test_no_model_is_evaluated_twice(done):
    made, planned = done
    events = read_events(made.folder / "evaluations.jsonl")
    keys = [(e["domain"], e["split"], e["solution"]) for e in events]
    assert len(keys) == len(set(keys))
    asked = sum(
        event["event"] in ("scores", "final")
        for run in planned
        for event in read_events(run.folder / "events.jsonl")
    )
    assert len(keys) < asked  # the seeds at least were shared


def test_interrupted_at_any_moment_it_goes_on_to_the_same_end(done, tmp_path):
    _, planned = done
    again = study(tmp_path / "out")
    for moment in (1, 9, 20):
        heard = 0

        def stop(progress, moment=moment):
            nonlocal heard
            heard += 1
            if heard == moment:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            study(tmp_path / "out").execute(stop)
    for one, two in zip(planned, again.execute(), strict=True):
        first, second = (
            json.loads((run.folder / "results.json").read_text()) for run in (one, two)
        )
        assert found(first) == found(second)
        assert not any(e["event"] == "failed" for e in read_events(two.folder / "events.jsonl"))


def test_more_seeds_and_methods_keep_what_is_there(done):
    made, planned = done
    before = {run.folder: (run.folder / "events.jsonl").stat().st_mtime_ns for run in planned}
    more = study(made.folder, methods=(*METHODS, "map_elites"), seeds=3)
    assert len(more.execute()) == 12
    assert before == {path: (path / "events.jsonl").stat().st_mtime_ns for path in before}


def test_a_method_that_fails_in_one_place_is_told_and_the_others_go_on(tmp_path):
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        "broken:\n  changes:\n    backend: {name: toy, n_tasks: 3, fault_rate: 1}\n"
        "    execution: {workers: 1, in_flight: 1, retries: 0, max_failures: 2}\n"
    )
    made = study(tmp_path / "out", methods=("random", str(broken)), seeds=1)
    rows = read_rows(made.execute(), made.failures)
    assert [row.status for row in rows] == ["ok", "failed"]
    assert "2 evaluations failed in a row" in rows[1].cause
    assert list(made.failures) == ["broken, seed 0 on toy"]


def test_a_failed_run_tells_what_it_had_spent(done):
    _, planned = done
    whole = read_rows(planned, {})[0]
    (row,) = read_rows(planned[:1], {planned[0].label: "the cause"})
    assert (row.status, row.cause) == ("failed", "the cause")
    assert row.evaluations == whole.evaluations == 12
    assert row.seconds == whole.seconds > 0
    tuned = planned[-1]  # a search that tries aggregates after it
    assert tuned.config.evaluations < 12
    (row,) = read_rows([tuned], {tuned.label: "the cause"})
    assert row.evaluations == read_rows([tuned], {})[0].evaluations > tuned.config.evaluations


@pytest.mark.parametrize(
    ("settings", "more", "message"),
    [
        (["archive.bins=7"], {}, "blocks.toy.archive.bins changed"),
        ([], {"evaluations": 13}, ": evaluations changed"),
        (["final.leading=2"], {}, "blocks.toy.final.leading changed"),
    ],
)
def test_a_folder_of_another_configuration_is_refused(done, settings, more, message):
    with pytest.raises(RunError, match=message):
        study(done[0].folder, *settings, **more)


def test_former_names_of_settings_are_read_in_a_description(tmp_path):
    config = load_config("llm-tiny", QUICK, models=False)

    def made(*settings: str) -> Study:
        changed = load_config("llm-tiny", [*QUICK, *settings], models=False) if settings else config
        methods = find_methods(["random"])
        return Study({"one": changed}, methods, seeds=1, evaluations=9, folder=tmp_path / "out")

    made()._describe()
    path = tmp_path / "out" / "compare.yaml"
    text = path.read_text()
    path.write_text(text.replace("side_tasks:", "reported:"))
    assert path.read_text() != text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made()
    with pytest.raises(RunError, match=r"blocks\.one\.archive\.bins changed"):
        made("archive.bins=7")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        study(tmp_path)


def test_zero_seeds_and_evaluations_are_both_told(tmp_path):
    with pytest.raises(ConfigError, match=r"seeds must be at least 1; got 0\nevaluations must"):
        study(tmp_path / "out", seeds=0, evaluations=0)
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path):
    made = study(
        tmp_path / "out", "backend.n_tasks=1", "backend.n_measures=2", methods=("nsga2", "ties")
    )
    with pytest.raises(ConfigError) as caught:
        made.execute()
    lines = str(caught.value).splitlines()
    assert lines[0] == "method 'nsga2' needs 2 tasks or more, not 1"
    assert lines[1].startswith("method 'ties' merges weights, but backend 'toy'")
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {".lock"}
    study(tmp_path / "out", methods=("random",), seeds=1, evaluations=3)  # another one may begin


def test_parts_that_do_not_fit_are_refused_before_anything_runs(tmp_path):
    svd = {"svd": Method(changes={"emitters": [{"name": "merge", "mutation": "svd"}]})}
    with pytest.raises(ConfigError, match="spectral coordinates"):
        study(tmp_path / "out", methods=find_methods(["random"]) | svd).execute()
    assert not list((tmp_path / "out").glob("runs/*"))


def test_unknown_methods_are_all_told_with_the_nearest_name(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("mine: {sumary: x}\n")
    with pytest.raises(ConfigError) as caught:
        find_methods(["nsga", "ties", "ties", str(own), str(tmp_path / "no.yaml")])
    lines = str(caught.value).splitlines()
    assert "unknown method 'nsga'; did you mean 'nsga2'?" in lines[0]
    assert lines[1] == "method 'ties' is listed twice"
    assert "method 'mine': unknown key 'sumary'; did you mean 'summary'?" in lines[2]
    assert "cannot read methods from" in lines[3]


def test_recipes_of_a_file_choose_among_what_they_tried(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("mine: {recipe: ties, space: ties}\nsearch: {}\nwrong: {recipe: tie}\n")
    with pytest.raises(ConfigError, match=r"method 'wrong': .*recipe.*'ties'"):
        find_methods([str(own)])
    own.write_text("mine: {recipe: ties, space: ties}\nsearch:\nseeds: {recipe: experts}\n")
    found = find_methods([str(own)])
    assert found["seeds"].candidates == "elites"
    built_in = find_methods(["ties"])["ties"]
    assert found["mine"] == built_in.model_copy(update={"summary": ""})
    assert (found["search"].candidates, found["search"].keeps) == ("all", "elites")


def test_test_beds_are_all_combinations():
    loaded = make_test_beds(lambda more: more, "toy", ["backend.dim=4,5", "seed=1"])  # type: ignore[arg-type]
    assert loaded == {
        "dim=4 seed=1": ["backend.dim=4", "seed=1"],
        "dim=5 seed=1": ["backend.dim=5", "seed=1"],
    }
    assert list(make_test_beds(lambda more: toy(*more), "toy", [])) == ["toy"]
    for wrong in ("seed", "seed=", "seed=1,1"):
        with pytest.raises(ConfigError):
            make_test_beds(lambda more: toy(*more), "toy", [wrong])


def test_test_beds_that_are_the_same_are_refused(tmp_path):
    for setting in ("seed", "final.leading", "final.bootstrap"):
        same = make_test_beds(lambda more: toy(*more), "toy", [f"{setting}=101,102"])
        made = Study(
            same,
            find_methods(["random"]),
            seeds=1,
            evaluations=3,
            folder=tmp_path / setting,
            workers=1,
        )
        names = " and ".join(f"'{name}'" for name in same)
        with pytest.raises(ConfigError, match=rf"{names} are the same .* count twice"):
            made.execute()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["final.weights={tusk: 1}"], "unknown tasks tusk"),
        (["final.choose_by=weights", "final.weights={tusk: 1}"], "unknown tasks tusk"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused_before_anything_runs(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        study(tmp_path / "out", *settings, methods=("random",)).execute()
    assert not list((tmp_path / "out").glob("runs/*"))


def test_what_a_method_changes_wrongly_is_told_with_its_name(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("mine: {changes: {emitters: 5}}\n")
    with pytest.raises(ConfigError, match="method 'mine': 'emitters': Input should be"):
        study(tmp_path / "out", methods=(str(own),)).execute()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("../up: {}", r"'../up' needs another name"),
        ("mine: [5]", r"method 'mine' must map fields to values; got \[5\]"),
        ("mine: {changes: {final: 5}}", "'final' must map keys to values; got 5"),
        ("mine: {changes: {execution: null}}", "'execution' must map keys to values; got None"),
        ("mine: {changes: {seed: 3, evaluations: 9}}", "evaluations, seed: the comparison sets"),
        (
            "mine: {changes: {backend: {name: toy, allow_unsandboxed: true}}}",
            "no file switches the sandbox off",
        ),
    ],
)
def test_methods_of_a_file_that_could_do_harm_are_refused(tmp_path, text, message):
    own = tmp_path / "own.yaml"
    own.write_text(text)
    with pytest.raises(ConfigError, match=message):
        find_methods([str(own)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["backend.tasks={os: {kind: shell, data: tiny://os.jsonl}}"], "needs 2 tasks or more"),
        (["final.aggregate_scales=[1, 1.5]"], "a budget of 3 .* 4 of them try aggregates"),
        (["final.aggregate_scales=[1.5]"], "a budget of 3 .* 4 of them try aggregates"),
    ],
)
def test_misfits_are_told_before_models_are_made(tmp_path, monkeypatch, settings, message):
    fits = load_config("llm-tiny", [*QUICK, "final.aggregate_scales=[1]"], models=False)
    config = load_config("llm-tiny", [*QUICK, *settings], models=False)
    monkeypatch.setattr(type(config.backend), "prepare", lambda *_: pytest.fail("models are made"))
    methods = find_methods(["nsga2", "paper"])
    test_beds = {"one": fits, "two": config}
    made = Study(test_beds, methods, seeds=1, evaluations=3, folder=tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        made.execute()


@pytest.mark.parametrize("fact", ["items", "weights", "dtype", "base_files", "statistics"])
def test_finished_runs_of_other_models_data_or_numbers_are_not_compared(
    tmp_path, monkeypatch, fact
):
    kind = type(toy().backend.build(None))
    for told, methods in (("old", ("random",)), ("new", ("random", "m2n2"))):
        monkeypatch.setattr(kind, "facts", lambda self, told=told: {fact: told})
        made = study(tmp_path / "out", methods=methods, seeds=1, workers=1)
        made.execute()
    (cause,) = made.failures.values()
    assert list(made.failures) == ["random, seed 0 on toy"]
    assert f"was made with others of: {fact}. Restore them, remove the folder" in cause


def test_facts_that_a_method_changes_itself_are_its_own(tmp_path, monkeypatch):
    kind = type(toy().backend.build(None))
    monkeypatch.setattr(kind, "facts", lambda self: {"dtype": ("dimension", self.space.dim)})
    own = tmp_path / "own.yaml"
    own.write_text("mine: {changes: {backend: {name: toy, dim: 5}}}\n")
    for methods in (("random", str(own)), ("random", str(own), "m2n2")):
        made = study(tmp_path / "out", methods=methods, seeds=1, workers=1)
        made.execute()
        assert made.failures == {}


def test_finished_runs_of_a_group_are_checked_against_its_own_backend(tmp_path, monkeypatch):
    shared = [METHODS[0]]
    study(tmp_path / "out", methods=shared, seeds=1, workers=1).execute()
    run = next((tmp_path / "out").glob("runs/*/random/seed-0"))
    results = json.loads((run / "results.json").read_text())
    results["facts"]["calibration"] = "that of the space, which the first backend does not tell"
    (run / "results.json").write_text(json.dumps(results))
    monkeypatch.setattr(Study, "_check_facts", lambda self, results, run: None)
    made = study(tmp_path / "out", methods=shared, seeds=2, workers=1)
    made.execute()
    (cause,) = made.failures.values()
    assert "was made with others of: calibration" in cause


def test_a_run_of_a_changed_method_says_what_changed(tmp_path):
    own = tmp_path / "own.yaml"
    failures = []
    for scale in (0.1, 0.2):
        own.write_text(f"mine: {{changes: {{axes: {{high_margin: {1 + scale}}}}}}}\n")
        made = study(tmp_path / "out", methods=(str(own),), seeds=1, evaluations=12, workers=1)
        made.execute()
        failures.append(made.failures)
    assert failures[0] == {}
    assert "has changed in axes.high_margin. Remove it" in failures[1]["mine, seed 0 on toy"]


@pytest.mark.parametrize("text", ["[1", "5", "evaluations: 12\nblocks: {toy: 5}\n", "\xff"])
def test_a_damaged_description_is_told_in_a_line(tmp_path, text):
    (tmp_path / "compare.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(RunError) as caught:
        study(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_that_cannot_be_locked_is_told(tmp_path):
    made = study(tmp_path / "out")
    (tmp_path / "out" / ".lock").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        made.execute()
