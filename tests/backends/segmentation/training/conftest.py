"""Images of two tasks, and configurations whose models are yet to be made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from qdmerge_segmentation.config import SegmentationConfig
from qdmerge_segmentation.training import Model
from qdmerge_segmentation.training import _train as train
from tests.backends.segmentation.conftest import Family, pictures, save, unet

MakeConfig = Callable[..., SegmentationConfig]


def write_images(folder: Path, count: int, size: tuple[int, int], seed: int) -> None:
    images, masks = pictures(count, size, seed)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_images(root / "a", 16, (32, 32), 0)
    write_images(root / "b", 12, (24, 40), 1)
    return root


@pytest.fixture
def config(data: Path, tmp_path: Path) -> MakeConfig:
    """Makes configurations of tasks "a" and "b" whose experts, and base, are yet to be made."""

    def make_config(
        base: str | None = None, labels: Any = None, steps: int = 2, **options: Any
    ) -> SegmentationConfig:
        training = {
            "validate_every": 2,
            "base": {"steps": steps, "batch_size": 4, "rate": 1e-3, "warmup": 1},
            "experts": {
                "steps": steps,
                "batch_size": 4,
                "rate": 1e-3,
                "warmup": 1,
                "replay": 0.25,
            },
        }
        for name, value in options.pop("training", {}).items():
            training[name] = {**training[name], **value} if isinstance(value, dict) else value
        tasks = {name: {"data": str(data / name), "labels": labels} for name in ("a", "b")}
        settings = {
            "base": str(base or tmp_path / "models" / "base"),
            "experts": {name: str(tmp_path / "models" / name) for name in tasks},
            "tasks": tasks,
            "image_size": 32,
            "device": "cpu",
            "training": training,
        }
        return SegmentationConfig.model_validate(settings | options)

    return make_config


@pytest.fixture
def start(tmp_path: Path) -> str:
    """The folder of a small U-Net that nobody has trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return str(save(unet(), tmp_path / "start"))


def of_kind(kind: str, family: Family) -> dict[str, Any]:
    """Settings to train experts from a family's base."""
    size = {"image_size": None} if kind == "sam" else {}
    labels = {"labels": [1, 2]} if kind == "segformer" else {}
    return {"base": str(family.base), **size, **labels, **family.load}


class Stopped(Exception):
    pass


def stop_at(step: int) -> Callable[[dict[str, Any]], None]:
    def report(facts: dict[str, Any]) -> None:
        if facts["done"] >= step:
            raise Stopped

    return report


def ignore(facts: dict[str, Any]) -> None:
    pass


def models_of(config: SegmentationConfig) -> dict[str, Model]:
    return config.training_plan().models


def make(name: str, config: SegmentationConfig, report: Callable[[dict[str, Any]], None]) -> None:
    """Train a model of a configuration in this process."""
    train.make(name, config.training_plan(), report)
