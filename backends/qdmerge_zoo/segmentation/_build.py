"""Building zoos of segmentation models: the images, then the models that learn from them."""

from __future__ import annotations

import time
from pathlib import Path

import yaml

from qdmerge.checkpoints import Progress
from qdmerge_segmentation.training import training_seconds
from qdmerge_zoo._zoos import ALL, write_facts
from qdmerge_zoo.segmentation._images import write_images
from qdmerge_zoo.segmentation._spec import ZooSpec

_PACKAGES = ("torch", "transformers", "numpy", "scipy", "pillow")


def build(spec: ZooSpec, folder: Path, progress: Progress) -> None:
    """Build a zoo in an empty folder: images, base, then the experts side by side.

    Raises:
        RunError: The training of a model fails; the message ends with the cause.
    """
    started = time.perf_counter()
    _draw(spec, folder, progress)
    spec.config(folder).make_experts(progress)
    write_facts(spec, folder, _PACKAGES, started, **_last_points(spec, folder))


def build_all(spec: ZooSpec, zoo: Path, folder: Path, progress: Progress) -> None:
    """Fine-tune the base of a zoo on all its tasks, in an empty folder.

    Raises:
        RunError: The training fails; the message ends with the cause.
    """
    spec.multitask_config(zoo, folder).make_experts(progress)


def cost(spec: ZooSpec, folder: Path) -> dict[str, float]:
    """Return what the model that :func:`build_all` left in a folder cost to train."""
    stage, seconds = spec.multitask, training_seconds(folder / ALL)
    examples = stage.steps * stage.batch_size
    return {"steps": stage.steps, "examples": examples, "seconds": seconds or 0.0}


def _draw(spec: ZooSpec, folder: Path, progress: Progress) -> None:
    """Write every task's images."""
    drawn, total = 0, len(spec.names) * spec.images

    def done() -> None:
        nonlocal drawn
        drawn += 1
        progress("data", drawn, total)

    for task in spec.names:
        write_images(task, spec.images, spec.seed, spec.size, folder / "data" / task, done)


def _last_points(spec: ZooSpec, folder: Path) -> dict[str, dict[str, object]]:
    """Return the last training loss of every model, and its Dice on all validation splits."""
    points = {}
    for name in ("base", *spec.names):
        text = (folder / name / "training.yaml").read_text(encoding="utf-8")
        points[name] = yaml.safe_load(text)["curve"][-1]
    return {
        "final_loss": {name: point["loss"] for name, point in points.items()},
        "validation": {name: point["validation"] for name, point in points.items()},
    }
