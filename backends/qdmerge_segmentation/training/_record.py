"""The history of a model's training, kept beside its weights."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qdmerge.storage import parse_yaml

RECORD = "training.yaml"
"""The history of a model's training; exports of merged models do not copy files of this name."""
TRAINED_ON = "trained_on"
"""The key of the hashes of all images that the model was trained on, without its base's."""
_MEASURED = ("qdmerge", "torch", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Return the versions that a training depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _MEASURED}}


def write_record(file: Path, facts: Mapping[str, Any], earlier: Sequence[Any]) -> None:
    """Write a training's history, with the versions now and, if resumed, those that began it."""
    import yaml

    record = {**facts, "versions": versions()}
    if earlier:
        record["earlier_versions"] = list(earlier)
    file.write_text(yaml.safe_dump(record, sort_keys=False, width=100), encoding="utf-8")


def trained_images(model: Path) -> set[str]:
    """Return the hashes of the images that a model was trained on, as far as its history says.

    Args:
        model: Folder of a model, or the file of its weights.
    """
    record = read_record(record_of(model)) or {}
    return set(str(record.get(TRAINED_ON, "")).split())


def training_seconds(model: Path) -> float | None:
    """Return how long the training of a model took; None without a history.

    Args:
        model: Folder of a model, or the file of its weights.
    """
    record = read_record(record_of(model))
    return None if record is None else float(record["seconds"])


def record_of(model: Path) -> Path:
    """Return the file of a model's history: in its folder, or beside its file of weights."""
    if model.suffix == ".safetensors":
        return model.with_suffix(f".{RECORD}")
    return model / RECORD


def read_record(file: Path) -> dict[str, Any] | None:
    """Read what :func:`write_record` wrote; None if there is nothing of the kind."""
    try:
        facts = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and "curve" in facts else None
