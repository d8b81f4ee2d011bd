"""The command line, as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.runs import RunFolder, solution_id

QUICK = ["--set", "final.leading=2", "--set", "final.bootstrap=100"]


def call(*arguments: object) -> tuple[int, str]:
    """Exit code and everything that was printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "run"
    code, output = call("run", "toy", "--evaluations", 9, "--seed", 3, "--out", path, *QUICK)
    assert code == 0, output
    return path, output


def test_run_leaves_results_table_figures_and_model(run):
    path, output = run
    results = json.loads((path / "results.json").read_text())
    assert (results["evaluations"], results["seed"]) == (9, 3)
    assert results["chosen"] in output
    assert results["chosen"] in (path / "results.md").read_text()
    assert sorted((path / "figures").glob("*.png"))
    assert (path / "model" / "model.npy").exists()
    # Not on a terminal, progress is plain lines.
    assert "search  9/9" in output
    assert "\x1b[" not in output


def test_the_run_folder_holds_the_exact_configuration(run, tmp_path):
    path, _ = run
    config = yaml.safe_load((path / "config.yaml").read_text())
    assert config["evaluations"] == 9
    assert config["final"]["leading"] == 2
    assert config["archive"] == {"name": "grid", "bins": 8}
    assert config["backend"] == {"name": "toy", **config["backend"]}
    del config["format"]
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(config))
    code, output = call("run", again, "--out", tmp_path / "again")
    assert code == 0, output
    first, second = (
        json.loads((p / "results.json").read_text()) for p in (path, tmp_path / "again")
    )
    del first["seconds"], second["seconds"]
    assert first == second


def test_status_of_a_finished_run(run):
    code, output = call("status", run[0])
    assert code == 0
    assert "finished; 9/9 evaluations, 0 failed" in output
    assert "resume" not in output


def test_status_resume_and_report_of_a_killed_run(run, tmp_path):
    lines = (run[0] / "events.jsonl").read_bytes().splitlines(keepends=True)
    tells = [n for n, line in enumerate(lines) if b'"event":"tell"' in line]
    path = tmp_path / "killed"
    path.mkdir()
    (path / "events.jsonl").write_bytes(b"".join(lines[: tells[4] + 1]))
    (path / "config.yaml").write_bytes((run[0] / "config.yaml").read_bytes())
    code, output = call("status", path)
    assert code == 0
    assert "4/9 evaluations" in output
    assert f"qdmerge resume {path}" in output
    code, output = call("report", path)
    assert code == 0, output
    assert sorted((path / "figures").glob("*.png"))
    code, output = call("export", path)
    assert (code, "there is no model 'chosen' in this run" in output) == (2, True)
    code, output = call("resume", path)
    assert code == 0, output
    first, second = (json.loads((p / "results.json").read_text()) for p in (run[0], path))
    del first["seconds"], second["seconds"]
    assert first == second


@pytest.mark.parametrize(
    "what", ["chosen", "aggregate", "best:task1", "base", "expert:task0", "id"]
)
def test_export_of_any_model(run, tmp_path, what):
    folder = RunFolder.open(run[0])
    rows = {row["name"]: row["solution"] for row in folder.read_results()["candidates"]}
    rows["chosen"] = rows[folder.read_results()["chosen"]]
    expected = rows.get(what, rows["base"])
    name = rows["base"][:8] if what == "id" else what
    code, output = call("export", run[0], name, "--to", tmp_path / "model")
    assert code == 0, output
    assert solution_id(np.load(tmp_path / "model" / "model.npy")) == expected
    code, output = call("export", run[0], name, "--to", tmp_path / "model")
    assert (code, "exists already" in output) == (2, True)


def test_export_of_the_aggregate_needs_no_results(run, tmp_path):
    path = tmp_path / "unfinished"
    path.mkdir()
    for name in ("events.jsonl", "config.yaml"):
        (path / name).write_bytes((run[0] / name).read_bytes())
    (path / "solutions").symlink_to(run[0] / "solutions")
    code, output = call("export", path, "aggregate", "--to", tmp_path / "model")
    assert code == 0, output
    rows = {r["name"]: r["solution"] for r in RunFolder.open(run[0]).read_results()["candidates"]}
    assert solution_id(np.load(tmp_path / "model" / "model.npy")) == rows["aggregate"]


def test_export_as_an_adapter_where_the_backend_can(run, tmp_path, monkeypatch):
    code, output = call("export", run[0], "--adapter", "--to", tmp_path / "adapter")
    assert (code, "ToyBackend exports no LoRA adapters; leave --adapter out" in output) == (2, True)
    from qdmerge_toy import ToyBackend

    def export_adapter(self, x, path):
        assert not (tmp_path / "adapter").exists()  # it appears whole
        return self.export(x, path)

    monkeypatch.setattr(ToyBackend, "export_adapter", export_adapter, raising=False)
    code, output = call("export", run[0], "--adapter", "--to", tmp_path / "adapter")
    assert code == 0, output
    assert f"Wrote {tmp_path / 'adapter'}" in output
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_list_copy_check_run(tmp_path):
    code, output = call("list")
    assert code == 0
    for name in (
        "toy",
        "llm",
        "toy-three",
        "llm-tiny",
        "spectral",
        "grid",
        "merge",
        "cycle",
        "svd",
    ):
        assert name in output.split()
    code, output = call("list", "archives")
    assert code == 0
    assert "grid" in output
    assert "merge" not in output
    study = tmp_path / "study.yaml"
    assert call("copy", "toy-three", study)[0] == 0
    assert "# Three bumps" in study.read_text()
    code, output = call("check", study)
    assert (code, "is fine" in output) == (0, True)
    code, output = call("check", "segmentation-tiny", "--recipe", "recommended")
    assert (code, "space core" in " ".join(output.split())) == (0, True)
    code, output = call("check", "segmentation-tiny", "--search", "unguided")
    assert (code, "space regmean" in output) == (0, True)
    code, output = call("check", study, "--recipe", "recomended")
    assert (code, "did you mean 'recommended'?" in output) == (2, True)
    code, output = call("copy", "toy-three", study)
    assert (code, "exists already" in output) == (2, True)


def test_parts_by_option_and_by_set(tmp_path):
    code, output = call(
        "run", "toy", "--evaluations", 6, "--archive", "cvt", "--emitter", "iso_line", "--emitter",
        "gaussian", "--scheduler", "bandit", "--set", "archive.centroids=20", "--set",
        "archive.samples=500", "--out", tmp_path / "run", *QUICK,
    )  # fmt: skip
    assert code == 0, output
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["archive"] == {"name": "cvt", "centroids": 20, "samples": 500}
    assert [part["name"] for part in config["emitters"]] == ["iso_line", "gaussian"]
    assert config["scheduler"]["name"] == "bandit"


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["run", "tyo"], ["'tyo' is neither a file nor a preset or backend; did you mean 'toy'?"]),
        (["run", "toy", "--archive", "gird"], ["unknown archive 'gird'; did you mean 'grid'?"]),
        (["run", "toy", "--emitter", "merg"], ["unknown emitter 'merg'; did you mean 'merge'?"]),
        (["run", "toy", "--scheduler", "cycel"], ["did you mean 'cycle'?"]),
        (["check", "toy", "--set", "evaluatoins=3"], ["did you mean 'evaluations'?"]),
        (["check", "toy", "--set", "backend.dmi=3"], ["unknown key 'dmi'; did you mean 'dim'?"]),
        (["check", "toy", "--set", "archive.bin=3"], ["unknown key 'bin'; did you mean 'bins'?"]),
        (
            ["check", "toy", "--set", "emitters.0.selection=elit", "--set", "evaluations=0",
             "--set", "backend.n_tasks=x"],
            ["unknown selection 'elit'; did you mean 'elite'?", "'evaluations'", "n_tasks"],
        ),
        (
            ["check", "toy", "--set", "backend.dim=1", "--set", "evaluations=0"],
            ["dim must be at least 2; got 1", "'evaluations'"],
        ),
        (["check", "toy", "--set", "backend=cuda"], ["unknown backend 'cuda'"]),
        (["check", "toy", "--set", "seed"], ["'seed' is not of the form key=value"]),
        (["check", "missing.yaml"], ["cannot read configuration 'missing.yaml'"]),
        (["list", "archivs"], ["unknown kind 'archivs'; did you mean 'archives'?"]),
        (["status", "nowhere"], ["nowhere holds no run"]),
        (["resume", "nowhere"], ["nowhere holds no run"]),
        (["report", "nowhere"], ["nowhere holds no run"]),
    ],
)  # fmt: skip
def test_bad_input_is_explained_without_a_traceback(arguments, messages):
    code, output = call(*arguments)
    assert code in (1, 2)
    assert output.startswith("Error:")
    for message in messages:
        assert message in output


def test_bad_yaml_is_explained(tmp_path):
    bad = tmp_path / "bad.yaml"
    for text, message in [("a: [1", "is not valid YAML"), ("- 1", "must hold keys and values")]:
        bad.write_text(text)
        code, output = call("check", bad)
        assert (code, message in output) == (2, True)


def test_an_out_folder_that_holds_a_run_is_refused(run):
    code, output = call("run", "toy", "--out", run[0])
    assert (code, "already holds a run" in output) == (2, True)


def test_export_of_an_unknown_model_suggests_one(run):
    code, output = call("export", run[0], "best:task9")
    assert (code, "did you mean 'best:task" in output) == (2, True)


def test_new_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert call("run", "toy", "--evaluations", 3, *QUICK)[0] == 0
        assert Path(f"runs/toy-{number}/results.json").exists()


def heavy_imports(*arguments: str) -> str:
    """What a command printed, and last the list of slow packages that it imported."""
    code = (
        "import sys; from qdmerge.cli import app\n"
        f"try: app({list(arguments)!r})\nexcept SystemExit as end: assert not end.code\n"
        "print([m for m in ('torch', 'ribs', 'transformers', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() + done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "--help"]])
def test_quick_commands_import_neither_torch_nor_pyribs(arguments):
    assert heavy_imports(*arguments).endswith("[]")


def test_status_imports_neither_torch_nor_pyribs(run):
    assert heavy_imports("status", str(run[0])).endswith("[]")
