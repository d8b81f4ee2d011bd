"""Every archive with every emitter, and every scheduler, on merged segmentation models."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from qdmerge.runs import BuildBackend
from qdmerge.settings import load_config
from qdmerge_zoo.segmentation import TASKS
from tests.swaps import every_combination, short_search
from tests.trained import segmentation_zoo


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    folder = segmentation_zoo()
    config = {
        "backend": {
            "name": "segmentation",
            "base": str(folder / "base"),
            "experts": {name: str(folder / name) for name in TASKS},
            "tasks": {name: {"data": str(folder / "data" / name)} for name in TASKS},
            "fractions": {"train": 0.5, "validation": 0.125, "selection": 0.125, "test": 0.25},
        },
        "space": {"name": "spectral", "rank": 2},
    }
    path: Path = tmp_path_factory.mktemp("swaps") / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return BuildBackend(load_config(path))()


@every_combination
def test_parts_swap(backend, archive, emitter, scheduler):
    short_search(backend, archive, emitter, scheduler)
