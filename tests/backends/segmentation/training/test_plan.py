"""Which models are made, and what is said before anything is trained."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qdmerge.errors import ConfigError
from qdmerge_segmentation.config import SegmentationConfig
from qdmerge_segmentation.training import Model
from tests.backends.segmentation.conftest import Family
from tests.backends.segmentation.training.conftest import MakeConfig


def missing_models(config: SegmentationConfig) -> dict[str, Model]:
    return config.missing_models(config.training_plan())


def test_models_that_are_there_or_elsewhere_are_not_missing(
    family: Callable[[str], Family], config: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "models" / "b").mkdir(parents=True)  # an empty folder is no model
    settings = config(str(family("unet").base))
    assert list(missing_models(settings)) == ["a", "b"]
    elsewhere = {"experts": {"a": "tiny://leaf", "b": str(tmp_path / "models" / "b")}}
    assert list(missing_models(config("tiny://base", **elsewhere))) == ["b"]
    assert list(missing_models(config("somebody/model", **elsewhere))) == ["b"]


def test_an_expert_is_trained_on_its_tasks_and_replays_the_others(config: MakeConfig) -> None:
    missing = missing_models(config())
    base, a = missing["base"], missing["a"]
    assert (base.own, base.others, base.start) == (("a", "b"), (), "unet")
    assert (a.own, a.others, a.start) == (("a",), ("b",), str(base.target))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no task": (
        {"experts": {"a": "./a", "c": "./c"}},
        r"expert 'c' cannot be trained: no task has its name.* Tasks: a, b\.",
    ),
    "a start that is not there": (
        {"training": {"start": "./nowhere"}},
        r"training\.start: no directory './nowhere'",
    ),
    "a U-Net by factory": (
        {"factory": "package:module"},
        r"training\.start 'unet' is a model of transformers, but factory is set",
    ),
    "a file without factory": (
        {"experts": {"a": "./a.safetensors"}},
        r"a: 'a\.safetensors' names a file, which needs a factory",
    ),
    "paths that read as models on the Hub": (
        {"base": "models/base", "experts": {"a": "models/a"}},
        r"taken from the Hub.* './models/base'",
    ),
    "a prompt for a model without": (
        {"prompt": "box", "training": {"start": "start"}},
        r"training\.start: a '[\w-]+' model takes no prompt",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_made_is_said_before_training(
    what: str, config: MakeConfig, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options, message = WRONG[what]
    with pytest.raises(ConfigError, match=message):
        missing_models(config(**options))


def test_a_folder_that_is_no_model_is_not_written_over(config: MakeConfig, tmp_path: Path) -> None:
    notes = tmp_path / "models" / "base" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(ConfigError, match=r"base: .*config\.json.*; remove it to train it again"):
        missing_models(config())
    assert notes.read_text() == "mine"


def test_importing_is_cheap() -> None:
    code = (
        "import sys, qdmerge_segmentation.training; "
        "print({'torch', 'transformers', 'matplotlib'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "set()"
