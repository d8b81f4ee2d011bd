"""The plug-in of the how-to, installed into an environment of its own and run from there."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

PLUGIN = Path(__file__).parents[2] / "examples" / "digits_plugin"
SPLITS = {"train": 100, "validation": 40, "selection": 40, "test": 60}
SMALL = {"width": 16, "steps": 20, **SPLITS}

SEEDED = ("dare", "map_elites", "m2n2", "recommended")

Python = Callable[..., subprocess.CompletedProcess[str]]


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Runs the Python of a fresh environment that has the plug-in, and qdmerge from this one."""
    home = tmp_path_factory.mktemp("digits")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "env"], check=True)
    layout = {"base": str(home / "env"), "platbase": str(home / "env")}
    executable = Path(sysconfig.get_path("scripts", "venv", layout)) / "python"
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # Packages of this environment, with what its own .pth files add, come after the fresh one's.
    lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(here))
    (Path(sysconfig.get_path("purelib", "venv", layout)) / "host.pth").write_text(lines)
    environment = os.environ | {"QDMERGE_CACHE": str(home / "cache")}
    environment.pop("PYTHONPATH", None)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(executable), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home)

    # Building leaves traces in the folder that is built, so a copy is.
    shutil.copytree(PLUGIN, home / "plugin", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    before = files_of(PLUGIN)
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = run("-m", "pip", "install", *options, home / "plugin")
    assert done.returncode == 0, done.stdout + done.stderr
    assert files_of(PLUGIN) == before
    return run


def qdmerge(python: Python, *arguments: object) -> subprocess.CompletedProcess[str]:
    return python("-m", "qdmerge.cli", *arguments)


def settings(**values: object) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"backend.{key}={value}")]


def test_the_backend_is_listed_without_loading_torch(python: Python) -> None:
    listed = qdmerge(python, "list", "backends")
    assert listed.returncode == 0, listed.stderr
    assert "digits" in listed.stdout
    assert "upright, rotated and inverted" in listed.stdout
    done = python("-c", "import qdmerge_digits.config, sys; print(qdmerge_digits, *sys.modules)")
    assert "site-packages" in done.stdout
    assert not {"torch", "sklearn"} & {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("recipe", ["paper", "released", "recommended"])
def test_a_run_finishes_and_leaves_results_and_a_model(
    python: Python, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    small = [*settings(**SMALL), "--set", "final.leading=1", "--set", "final.bootstrap=100"]
    done = qdmerge(
        python, "run", "digits", "--recipe", recipe, "--evaluations", 15, *small, "--out", run
    )
    assert done.returncode == 0, done.stderr
    assert "Test scores" in done.stdout
    results = json.loads((run / "results.json").read_text())
    assert results["tasks"] == ["upright", "rotated", "inverted"]
    assert results["evaluations"] == 15
    assert results["failed"] == 0
    chosen = next(row for row in results["candidates"] if row["name"] == results["chosen"])
    assert chosen["test_mean_ci95"][0] <= chosen["test_mean"] <= chosen["test_mean_ci95"][1]
    assert (run / "figures" / "archives.png").is_file()

    net = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    net.load_state_dict(load_file(run / "model" / "model.safetensors"))
    splits = plugin(monkeypatch, "backend").load_splits(
        plugin(monkeypatch, "config").DigitsConfig(**SMALL)
    )
    views, labels = splits["test"]
    with torch.inference_mode():
        accuracy = (net(views).argmax(dim=2) == labels).double().mean(dim=1)
    found = dict(zip(results["tasks"], accuracy.tolist(), strict=True))
    assert found == pytest.approx(chosen["test"], abs=0.02)  # a digit of 60 may tie


def test_a_forecast_compares_the_experts_weights(python: Python) -> None:
    """Regression means are no linear merges, so that space gives way to `core`."""
    command = ["forecast", "digits", *settings(**SMALL), "--set", "space=regmean"]
    done = qdmerge(python, *command, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["space"] == "core"
    pairs = {tuple(pair["tasks"]): pair for pair in told["pairs"]}
    assert len(pairs) == 3
    for pair in pairs.values():
        assert 0 < pair["similarity"] <= 1
        assert -1 <= pair["cosine"] < pair["similarity"]
    assert told["sentence"] in qdmerge(python, *command).stdout


EXPRESS = """
import sys
import numpy as np
from safetensors.torch import save_file
from qdmerge.runs import BuildBackend, Run, read_history

run = Run.open(sys.argv[1])
corners = read_history(run.folder.read_events()).corners
x = np.array([0.5, 0.2, 0.3]) @ np.load(f"{sys.argv[1]}/solutions/{corners}.npy")
backend = BuildBackend(run.config)()
backend.space.express(x.astype(np.float32), backend.net)
save_file(backend.net.state_dict(), sys.argv[2])
"""


def test_a_plane_gives_a_model_for_any_preference(python: Python, tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "model"
    small = [*settings(**SMALL), "--set", "final.leading=1", "--set", "final.bootstrap=100"]
    start = "start=[{recipe: plane, steps: 80, samples: 1}]"
    done = qdmerge(
        python, "run", "digits", "--evaluations", 8, "--set", start, *small, "--out", run
    )
    assert done.returncode == 0, done.stderr
    told = "upright=0.5,rotated=0.2,inverted=0.3"
    done = qdmerge(python, "export", run, "--weights", told, "--to", model)
    assert done.returncode == 0, done.stderr
    assert "Best on selection by these weights: the plane at these weights" in done.stdout
    expected = tmp_path / "expected.safetensors"
    assert python("-c", EXPRESS, run, expected).returncode == 0
    torch.testing.assert_close(load_file(model / "model.safetensors"), load_file(expected))


def test_its_merges_are_compared(python: Python, tmp_path: Path) -> None:
    methods = "experts,average,ties,dare,slerp,regmean,map_elites,m2n2,recommended"
    small = [*settings(**SMALL), "--set", "final.leading=1", "--set", "final.bootstrap=100"]
    command = ["compare", "digits", "--methods", methods, "--seeds", 2, "--evaluations", 24]
    done = qdmerge(python, *command, *small, "--workers", 1, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert list(told["methods"]) == methods.split(",")
    runs = {name: method["runs"] for name, method in told["methods"].items()}
    assert runs == {name: 2 if name in SEEDED else 1 for name in runs}
    spent = {name: method["evaluations"] for name, method in told["methods"].items()}
    assert 20 < spent.pop("recommended") <= 24  # aggregates may be equal
    assert spent == {"experts": 3, "average": 1} | {
        name: 12 if name in ("ties", "dare", "slerp", "regmean") else 24
        for name in methods.split(",")[2:-1]
    }
    first, second = told["methods"]["dare"]["set"]["fronts"]
    assert first["points"] != second["points"]  # other elements were dropped


def plugin(monkeypatch: pytest.MonkeyPatch, module: str) -> Any:
    """A module of the plug-in, in this process."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    return importlib.import_module(f"qdmerge_digits.{module}")


def test_mistakes_are_told_in_a_line_each(python: Python) -> None:
    done = qdmerge(python, "check", "digits", *settings(widht=3, width=-3, steps="many"))
    assert done.returncode == 2
    assert sorted(done.stderr.removeprefix("Error: ").splitlines()) == [
        "'backend': backend 'digits': 'steps': Input should be a valid integer, unable to parse "
        "string as an integer (got 'many')",
        "'backend': backend 'digits': 'width': Input should be greater than 0 (got -3)",
        "'backend': backend 'digits': unknown key 'widht'; did you mean 'width'? Known: "
        "models_seed, selection, sources, steps, test, train, validation, width.",
    ]


def test_settings_that_do_not_fit_each_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    config = plugin(monkeypatch, "config").DigitsConfig
    assert config().problems() == []
    assert config(train=3000).problems() == ["the splits need 4197 digits; there are 1797"]


def test_settings_travel_to_workers_and_splits_share_no_digit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = plugin(monkeypatch, "config").DigitsConfig(**SMALL)
    assert pickle.loads(pickle.dumps(config)) == config
    splits = plugin(monkeypatch, "backend").load_splits(config)
    assert {name: len(labels) for name, (_, labels) in splits.items()} == SPLITS
    digits = [row.numpy().tobytes() for views, _ in splits.values() for row in views[0]]
    assert len(set(digits)) == len(digits)  # no two of scikit-learn's digits are equal


def test_making_the_models_leaves_the_global_random_state_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend, config = plugin(monkeypatch, "backend"), plugin(monkeypatch, "config")
    before = torch.get_rng_state()
    backend.make_models(config.DigitsConfig(**SMALL), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert {path.stem for path in tmp_path.iterdir()} == {"base", *config.TASKS}
