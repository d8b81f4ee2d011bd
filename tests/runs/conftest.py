"""Small real runs on the toy backend."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from qdmerge.runs import Run
from qdmerge.settings import RunConfig, parse_config

EMITTERS = {
    "merge": [{"name": "merge", "mutation": "gaussian"}],
    "svd": [{"name": "merge", "mutation": "svd"}],
    "cma_es": [{"name": "cma_es", "batch_size": 4}],
    "guided": [
        {"name": "merge", "mutation": ["gaussian", {"name": "guided", "steps": 3, "rate": 0.1}]}
    ],
    "gradient_arborescence": [{"name": "gradient_arborescence", "batch_size": 3}],
    "gradient_operator": [
        {"name": "gradient_operator", "sigma": 0.05, "batch_size": 2, "slopes_batch": 9},
        {"name": "merge", "mutation": "gaussian"},
    ],
    "mixed": [{"name": "merge", "mutation": "gaussian", "batch_size": 2}, "iso_line"],
    "plane": [{"name": "merge", "mutation": "gaussian"}],
}

DQD = ("gradient_arborescence", "gradient_operator")

STARTS = {
    "guided": {
        "recipe": "guided", "scales": [0.1, 0.2], "steps": 6, "every": 4, "branch_steps": 2
    },
    "plane": {"recipe": "plane", "scales": [0.1, 0.2], "steps": 20, "samples": 5},
}  # fmt: skip


def toy_config(evaluations: int = 12, emitters: str = "merge", **settings: Any) -> RunConfig:
    backend = settings.pop("backend", {})
    return parse_config(
        {
            "backend": {"name": "toy", **backend},
            "evaluations": evaluations,
            "archive": settings.pop("archive", {"name": "grid", "bins": 6}),
            "emitters": settings.pop("parts", EMITTERS[emitters]),
            "start": [STARTS[emitters]] if emitters in STARTS else [],
            "final": {"leading": 2, "bootstrap": 100},
            **settings,
        }
    )


def timeless(results: dict[str, Any]) -> dict[str, Any]:
    """Results without what may differ between two equal runs: a climb may begin anew elsewhere."""
    return {k: v for k, v in results.items() if k not in ("seconds", "gradient_passes")}


def essence(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events without times, and without the marks that sessions leave."""
    return [
        {
            key: value
            for key, value in event.items()
            if key not in ("time", "seconds", "guiding", "passes")
        }
        for event in events
        if event["event"] not in ("resume", "stop")
    ]


class FinishedRuns(dict[str, tuple[Path, dict[str, Any]]]):
    """A finished run per kind of emitter, run on first use: its folder and its results."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __missing__(self, emitters: str) -> tuple[Path, dict[str, Any]]:
        path = self._root / emitters
        self[emitters] = path, Run.create(toy_config(emitters=emitters), path).execute()
        return self[emitters]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRuns:
    return FinishedRuns(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copy_of(finished, tmp_path):
    """Copies a finished run, with its log cut to so many bytes, as if it had been killed there."""

    def copy(emitters: str, log_bytes: int) -> Path:
        path = tmp_path / f"copy-{log_bytes}"
        shutil.copytree(finished[emitters][0], path)
        (path / "results.json").unlink()
        shutil.rmtree(path / "model", ignore_errors=True)
        log = path / "events.jsonl"
        log.write_bytes(log.read_bytes()[:log_bytes])
        return path

    return copy
