"""The history of a model's training, kept beside its weights."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from qdmerge_segmentation.config import SegmentationConfig
    from qdmerge_segmentation.training._plan import Model

RECORD = "training.yaml"
"""The history of a model's training; a name that exports of merged models do not copy."""
TRAINED_ON = "trained_on"
"""The key of the hashes of all images that the model was trained on, its base's left out."""
_MEASURED = ("qdmerge", "torch", "transformers", "numpy")


def settings_of(model: Model, config: SegmentationConfig) -> dict[str, Any]:
    """All settings that decide the course of a training, the images apart; no paths."""
    training = config.training
    return {
        "model": model.name,
        "tasks": list(model.own),
        "start": "base" if model.name != "base" else Path(model.start).name,
        "stage": model.stage.model_dump(mode="json"),
        "augment": training.augment,
        "validate_every": training.validate_every,
        "seed": training.seed,
        "image_size": config.image_size,
        "prompt": config.prompt,
        "factory": config.factory,
        "metrics": {name: task.metric for name, task in config.tasks.items()},
        "labels": {
            name: None if task.labels is None else list(task.labels)
            for name, task in config.tasks.items()
        },
    }


def write_record(file: Path, facts: dict[str, Any]) -> None:
    """Writes a training's history: settings, versions, time, and the validation curve."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in _MEASURED}}
    text = yaml.safe_dump({**facts, "versions": versions}, sort_keys=False, width=100)
    file.write_text(text, encoding="utf-8")


def trained_images(model: Path) -> set[str]:
    """Hashes of the images that a model was trained on, as far as its history tells.

    Args:
        model: Folder of a model, or the file of its weights.
    """
    record = read_record(record_of(model)) or {}
    return set(str(record.get(TRAINED_ON, "")).split())


def training_seconds(model: Path) -> float | None:
    """How long the training of a model took, as far as its history tells; None if it is not there.

    Args:
        model: Folder of a model, or the file of its weights.
    """
    record = read_record(record_of(model))
    return None if record is None else float(record["seconds"])


def record_of(model: Path) -> Path:
    """Where the history of a model lies: in its folder, or beside its file of weights."""
    if model.suffix == ".safetensors":
        return model.with_suffix(f".{RECORD}")
    return model / RECORD


def read_record(file: Path) -> dict[str, Any] | None:
    """What :func:`write_record` wrote; None if there is nothing of the kind."""
    try:
        facts = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return facts if isinstance(facts, dict) and "curve" in facts else None
