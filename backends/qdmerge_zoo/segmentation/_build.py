"""Building a zoo in an empty folder: the images, then the models that learn from them."""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import yaml

from qdmerge.backend import Progress
from qdmerge_zoo.segmentation._images import write_images
from qdmerge_zoo.segmentation._recipe import VERSION, Recipe

_MEASURED = ("torch", "transformers", "numpy", "scipy", "pillow")


def build(recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Build the zoo of ``recipe`` in ``folder`` and finish it with ``recipe.json``.

    Raises:
        RunError: If the training of a model fails; the message ends with the cause.
    """
    started = time.perf_counter()
    _draw(recipe, folder, progress)
    recipe.config(folder).make_experts(progress)
    facts = {
        "version": VERSION,
        "settings": json.loads(recipe.dump()),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _MEASURED},
        },
        **_last_points(recipe, folder),
        "seconds": round(time.perf_counter() - started, 1),
    }
    (folder / "recipe.json").write_text(json.dumps(facts, indent=2) + "\n")


def _draw(recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Write every task's images."""
    drawn, total = 0, len(recipe.names) * recipe.images

    def done() -> None:
        nonlocal drawn
        drawn += 1
        progress("data", drawn, total)

    for task in recipe.names:
        write_images(task, recipe.images, recipe.seed, recipe.size, folder / "data" / task, done)


def _last_points(recipe: Recipe, folder: Path) -> dict[str, dict[str, object]]:
    """Return the last training loss of every model, and its Dice on all validation splits."""
    records = {
        name: yaml.safe_load((folder / name / "training.yaml").read_text(encoding="utf-8"))
        for name in ("base", *recipe.names)
    }
    return {
        "final_loss": {name: record["curve"][-1]["loss"] for name, record in records.items()},
        "validation": {name: record["curve"][-1]["validation"] for name, record in records.items()},
    }
