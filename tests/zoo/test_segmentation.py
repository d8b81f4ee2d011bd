"""Zoos of segmentation models."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import yaml

from qdmerge.settings import presets_for
from qdmerge_segmentation.config import SegmentationConfig
from qdmerge_segmentation.models import load_segmenter
from qdmerge_segmentation.training import _make
from qdmerge_zoo.segmentation import TASKS, ZooSpec, generate, zoo
from tests.trained import jobs_in_this_process, never

MODELS = ("base", *TASKS)
MICRO = ZooSpec.micro()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, int, int]]]:
    calls: list[tuple[str, int, int]] = []
    cache = tmp_path_factory.mktemp("cache")
    with jobs_in_this_process(_make):
        return zoo(MICRO, cache, progress=lambda *call: calls.append(call)), calls


def test_importing_is_cheap() -> None:
    code = (
        "import sys, qdmerge_zoo.segmentation; print({'torch', 'transformers'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "set()"


def test_every_stage_reports_until_it_is_done(
    built: tuple[Path, list[tuple[str, int, int]]],
) -> None:
    calls = built[1]
    for stage, total in {"data": 4 * MICRO.images, **dict.fromkeys(MODELS, 2)}.items():
        done = [call[1] for call in calls if call[0] == stage]
        assert {call[2] for call in calls if call[0] == stage} == {total}
        assert done[-1] == total
        assert done == sorted(done)


def test_the_recipe_is_written_beside_the_models(built: tuple[Path, object]) -> None:
    facts = json.loads((built[0] / "recipe.json").read_text())
    assert ZooSpec(**facts["settings"]) == MICRO
    assert tuple(facts["final_loss"]) == tuple(facts["validation"]) == MODELS
    assert all(loss > 0 for loss in facts["final_loss"].values())
    for scores in facts["validation"].values():
        assert tuple(scores) == TASKS
        assert all(0 <= score <= 1 for score in scores.values())
    assert {"torch", "transformers", "scipy", "numpy"} < set(facts["versions"])
    assert facts["seconds"] > 0


def test_experts_are_the_base_moved_each_in_its_own_direction(built: tuple[Path, object]) -> None:
    weights = {
        name: load_segmenter(
            built[0] / name,
            image_size=None,
            prompt=None,
            factory=None,
            dtype=torch.float32,
            device=torch.device("cpu"),
        ).module.state_dict()
        for name in MODELS
    }
    for first in MODELS:
        assert weights[first].keys() == weights["base"].keys()
        assert not any("running_mean" in key for key in weights[first])  # groups, not batches
        for second in MODELS:
            same = [torch.equal(weights[first][k], weights[second][k]) for k in weights[first]]
            assert all(same) if first == second else not any(same)


def test_the_images_are_the_tasks_own(built: tuple[Path, object]) -> None:
    config = MICRO.config(built[0])
    for task in TASKS:
        splits = {split: config.images(task, split) for split in config.fractions}
        assert {split: len(images) for split, images in splits.items()} == {
            "train": 8,
            "validation": 2,
            "selection": 2,
            "test": 4,
        }
        for images in splits.values():
            for name, image in zip(images.names, images.images, strict=True):
                drawn, _ = generate(task, int(Path(name).stem), MICRO.seed, MICRO.size)
                assert (image == drawn).all()


def test_nothing_remembers_where_it_was_built(built: tuple[Path, object]) -> None:
    texts = [path for path in built[0].rglob("*") if path.suffix in (".json", ".yaml", ".csv")]
    assert len(texts) > 10
    for path in texts:
        assert ".partial" not in path.read_text()
        assert str(built[0].parent) not in path.read_text()


def test_nothing_is_left_beside_the_models(built: tuple[Path, object]) -> None:
    names = {path.name for path in built[0].iterdir()}
    assert names == {*MODELS, "data", "recipe.json", "manifest.json", "training.png"}


def test_a_built_zoo_is_used_again(built: tuple[Path, object]) -> None:
    assert zoo(MICRO, built[0].parent, progress=never) == built[0]


@pytest.mark.parametrize(
    "preset", ["segmentation-tiny", "segmentation-conflict", "segmentation-conflict-6"]
)
def test_runs_of_the_presets_split_like_the_recipe(preset: str) -> None:
    package, _, path = presets_for("segmentation")[preset].partition("/")
    settings = yaml.safe_load((files(package) / path).read_text())["backend"]
    settings.pop("name")
    config = SegmentationConfig(**settings)
    spec = config.sources["tiny"].spec
    assert config.fractions == spec.fractions
    assert config.split_seed == spec.config(Path("folder")).split_seed
    assert tuple(config.tasks) == tuple(config.experts) == spec.names


def test_every_setting_is_in_the_key() -> None:
    changes = {
        "seed": 1,
        "images": 17,
        "size": 48,
        "fractions": {**MICRO.fractions, "test": 0.2},
        "base": MICRO.experts,
        "experts": MICRO.base,
        "validate_every": 3,
        "tasks": 6,
        "expert_steps": {"leaf": 3},
    }
    assert set(changes) == set(ZooSpec.model_fields)
    keys = {MICRO.model_copy(update={name: value}).key for name, value in changes.items()}
    assert len(keys | {MICRO.key, ZooSpec().key}) == len(changes) + 2
