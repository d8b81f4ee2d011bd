"""Small real runs of the toy backend, each made once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from qdmerge.runs import Run, RunFolder
from qdmerge.settings import parse_config

RUNS: dict[str, dict[str, Any]] = {
    "two tasks": {"backend": {"n_tasks": 2}},
    "three tasks": {},
    "four tasks": {"backend": {"n_tasks": 4}},
    "own measures": {"backend": {"n_tasks": 1, "n_measures": 2}},
    "cvt": {"archive": {"name": "cvt", "centroids": 30, "samples": 1000}},
    "cvt, two tasks": {"backend": {"n_tasks": 2}, "archive": {"name": "cvt", "centroids": 9}},
    "dns": {"archive": {"name": "dns", "capacity": 25}},
    "proximity": {"archive": "proximity"},
    "sliding": {"archive": {"name": "sliding", "bins": 5, "remap": 10}},
}
BINS = 6
EVALUATIONS = 24


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunFolder]:
    """The folder of a finished run, by its name in ``RUNS``."""

    @cache
    def made(name: str) -> RunFolder:
        settings = {"archive": {"name": "grid", "bins": BINS}, **RUNS[name]}
        settings["backend"] = {"name": "toy", **settings.get("backend", {})}
        config = parse_config(
            {
                "evaluations": EVALUATIONS,
                "emitters": [{"name": "merge", "mutation": "gaussian"}],
                "final": {"leading": 3, "bootstrap": 100},
                **settings,
            }
        )
        run = Run.create(config, tmp_path_factory.mktemp("runs") / "run")
        run.execute()
        return run.folder

    return made


@pytest.fixture
def unfinished(run_of, tmp_path) -> Callable[[str, int], RunFolder]:
    """A copy of a run whose log ends after so many told batches; the seeds are the first one."""

    def cut(name: str, told: int) -> RunFolder:
        folder = RunFolder(shutil.copytree(run_of(name).path, tmp_path / f"cut-{told}"))
        folder.results.unlink()
        shutil.rmtree(folder.figures, ignore_errors=True)
        lines = folder.log.read_text().splitlines(keepends=True)
        ends = [0] + [i for i, line in enumerate(lines, 1) if json.loads(line)["event"] == "tell"]
        folder.log.write_text("".join(lines[: ends[told]] or lines[:1]))
        return folder

    return cut


@pytest.fixture
def results() -> dict[str, Any]:
    """Results of a run with two tasks, as ``results.json`` has them, with easy numbers."""

    def row(name: str, kind: str, a: float, b: float, **details: Any) -> dict[str, Any]:
        return {
            "name": name,
            "kind": kind,
            "solution": "x" if name in ("expert:a", "best:a") else name,
            "details": details,
            **{split: {"a": a, "b": b} for split in ("validation", "selection", "test")},
            **dict.fromkeys(("validation_mean", "selection_mean", "test_mean"), (a + b) / 2),
            "test_gmean": (a * b) ** 0.5,
            "test_min": min(a, b),
            "test_mean_ci95": [(a + b) / 2 - 0.03, (a + b) / 2 + 0.04],
        }

    return {
        "tasks": ["a", "b"],
        "candidates": [
            row("best:a", "elite", 0.9, 0.3),
            row("mean:1", "elite", 0.8, 0.5),
            row("mean:2", "elite", 0.7, 0.5),
            row("aggregate", "aggregate", 0.5, 0.5, scale=1.0),
            row("aggregate_scaled", "aggregate", 0.75, 0.7, scale=1.25),
            row("task_arithmetic", "task_arithmetic", 0.7, 0.71, scale=0.5),
            row("average", "average", 0.6, 0.45),
            row("expert:a", "expert", 0.9, 0.3),
            row("expert:b", "expert", 0.2, 0.8),
            row("base", "base", 0.1, 0.25),
        ],
        "chosen": "aggregate_scaled",
        "evaluations": 150,
        "evaluations_after_search": 31,
        "failed": 2,
        "seconds": {"total": 321.4, "evaluating": 300.2},
        "archives": {
            "a": {"elites": 12, "coverage": 0.25, "qd_score": 4.5, "best": 0.9},
            "b": {"elites": 9, "coverage": None, "qd_score": None, "best": 0.8},
        },
        "seed": 7,
        "config": {"final": {"choose_by": "geometric_mean", "weights": {}}},
    }
