"""The segmentation example and the swaps, from the shell, on models trained for a moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from qdmerge_zoo.segmentation import TASKS
from tests.trained import segmentation_zoo

EXAMPLES = Path(__file__).parents[2] / "examples"


def call(script: str, *arguments: object) -> str:
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def study(tmp_path) -> Path:
    """A configuration of three tasks without data and models, as folders.yaml is one."""
    tasks = TASKS[:3]
    stage = {"steps": 1, "batch_size": 2, "warmup": 0}
    config = {
        "backend": {
            "name": "segmentation",
            "base": "./models/base",
            "experts": {name: f"./models/{name}" for name in tasks},
            "tasks": {name: {"data": f"./data/{name}"} for name in tasks},
            "training": {"base": stage, "experts": stage},
        },
        "space": {"name": "spectral", "rank": 2},
        "archive": {"name": "grid", "bins": 3},
        "final": {"leading": 1, "bootstrap": 100, "aggregate_scales": [1.0]},
    }
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_all_pairs_and_all_at_once_are_merged_and_told(study, tmp_path):
    data = segmentation_zoo() / "data"
    arguments = (study, "--data", data, "--seeds", 1, "--evaluations", 2, "--out", tmp_path / "out")
    printed = call("segmentation/pairs.py", *arguments)
    for group in ("camouflage + polyp", "camouflage + skeleton", "polyp + skeleton"):
        assert f"| {group} |" in printed
    assert f"| {' + '.join(TASKS[:3])} |" in printed
    assert "pairs of 3 that keep 90% of both experts" in printed
    for forecast in ("similarity s", "norm ratio", "sign agreement", "base on validation"):
        assert printed.count(f"| {forecast} |") == 2  # both kinds of correlation
    assert "n: 3 pairs of 3 experts" in printed
