"""Zoos of more conflict and more tasks, and the base fine-tuned on all tasks' images."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from qdmerge.errors import ConfigError
from qdmerge.settings import load_config
from qdmerge.spaces import ExpertSpace
from qdmerge.storage import intact
from qdmerge_segmentation.config import SegmentationConfig, TaskConfig
from qdmerge_segmentation.training import _make
from qdmerge_zoo.schemes import TinySegmentation
from qdmerge_zoo.segmentation import ALL_TASKS, ZooSpec, multitask, zoo
from tests.trained import jobs_in_this_process, never, same

LEVELS = range(4)
SIX = ZooSpec.micro().model_copy(update={"tasks": 6, "expert_steps": {"leaf": 3, "focus": 1}})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def in_this_process() -> Iterator[None]:
    with jobs_in_this_process(_make):
        yield


@pytest.fixture(scope="module")
def made(cache: Path, in_this_process: None) -> Path:
    """The model of all tasks of the zoo ``SIX``, which is built, too."""
    return multitask(SIX, cache)


@pytest.fixture
def tiny_is_six(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let ``tiny://`` mean the zoo ``SIX``, whatever the settings."""
    monkeypatch.setenv("QDMERGE_CACHE", str(cache))
    monkeypatch.setattr(TinySegmentation, "spec", SIX)


def record(model: Path) -> dict[str, object]:
    return dict(yaml.safe_load((model / "training.yaml").read_text()))


def settings(tasks: int, **changes: object) -> SegmentationConfig:
    names = ALL_TASKS[:tasks]
    return SegmentationConfig(
        base="tiny://base",
        experts={name: f"tiny://{name}" for name in names},
        tasks={name: TaskConfig(data=f"tiny://data/{name}") for name in names},
        fractions=SIX.fractions,
        sources={"tiny": {"tasks": tasks}},
        **changes,
    )


def test_the_easy_zoo_is_the_one_it_was() -> None:
    assert ZooSpec.of(0).key == ZooSpec().key == "v1-047768cf6859"
    assert "expert_steps" not in ZooSpec().dump()
    assert '"tasks"' not in ZooSpec().dump()


def test_every_level_and_number_of_tasks_is_a_zoo_of_its_own() -> None:
    keys = {ZooSpec.of(0, level, tasks).key for level in LEVELS for tasks in (4, 6)}
    assert len(keys) == 8


def test_more_conflict_is_less_replay_unequal_experts_and_a_weaker_base() -> None:
    specs = [ZooSpec.of(0, level, 6) for level in LEVELS]
    replays = [spec.experts.replay for spec in specs]
    assert replays == sorted(set(replays), reverse=True)
    bases = [spec.base.steps for spec in specs]
    assert bases == sorted(bases, reverse=True)
    assert [bool(spec.expert_steps) for spec in specs] == [False, False, True, True]
    assert all(ZooSpec.model_validate_json(spec.dump()) == spec for spec in specs)


@pytest.mark.parametrize("level", LEVELS)
def test_the_rival_takes_the_steps_of_all_experts(level: int) -> None:
    spec = ZooSpec.of(0, level, 6)
    training = spec.config(Path("zoo")).training
    assert spec.multitask.steps == sum(training.expert(task).steps for task in ALL_TASKS)
    assert spec.multitask.rate == spec.experts.rate


def test_experts_are_trained_for_as_long_as_the_spec_says(cache: Path, made: Path) -> None:
    folder = zoo(SIX, cache, progress=never)
    steps = {task: record(folder / task)["stage"]["steps"] for task in ALL_TASKS}
    assert steps == {**dict.fromkeys(ALL_TASKS, 2), "leaf": 3, "focus": 1}


def test_the_rival_is_the_same_when_made_again(cache: Path, made: Path, tmp_path: Path) -> None:
    name = f"segmentation-tiny-{SIX.key}"
    shutil.copytree(cache / name, tmp_path / name)
    again = multitask(SIX, tmp_path)
    assert same(*(folder / "model.safetensors" for folder in (made, again)))


def test_the_rival_has_seen_the_training_images_of_all_tasks_only(cache: Path, made: Path) -> None:
    config = SIX.config(zoo(SIX, cache))
    trained = set(str(record(made)["trained_on"]).split())
    for task in ALL_TASKS:
        for split in config.fractions:
            seen = trained & set(config.images(task, split).hashes)
            assert len(seen) == (len(config.images(task, split)) if split == "train" else 0)
    assert record(made)["stage"]["steps"] == 2 * 4 + 3 + 1
    assert str(cache) not in (made / "training.yaml").read_text()


def test_the_rival_is_made_once_and_leaves_the_zoo_alone(cache: Path, made: Path) -> None:
    assert multitask(SIX, cache, progress=never) == made
    assert {path.name for path in made.parent.iterdir()} == {"all", "training.png", "manifest.json"}
    assert intact(zoo(SIX, cache, progress=never))


@pytest.mark.usefixtures("tiny_is_six")
def test_the_rival_is_prepared_evaluated_and_its_cost_told(made: Path) -> None:
    config = settings(6)
    rival = config.multitask()
    assert rival is not None
    assert rival.training_cost()["seconds"] > 0
    assert rival.training_cost()["steps"] == 12
    assert rival.training_cost()["examples"] == 12 * SIX.experts.batch_size
    assert config.training_cost() is None
    assert rival.problems() == []
    rival.prepare(never)
    ours, theirs = (one.build(ExpertSpace) for one in (config, rival))
    assert [task.name for task in theirs.tasks] == [task.name for task in ours.tasks]
    assert theirs.facts()["items"] == ours.facts()["items"]
    zeros = [np.zeros((1, backend.space.dim)) for backend in (ours, theirs)]
    np.testing.assert_array_equal(
        ours.evaluate(zeros[0], "validation").scores, theirs.evaluate(zeros[1], "validation").scores
    )
    scores = theirs.evaluate(np.ones((1, 1)), "validation").scores
    assert scores.shape == (1, 6)
    last = record(made)["curve"][-1]["validation"]
    # A pixel at the threshold may fall to the other side; the base is 0.1 away.
    np.testing.assert_allclose(scores[0], list(last.values()), atol=5e-3)


@pytest.mark.usefixtures("tiny_is_six")
def test_a_rival_that_is_not_made_has_no_cost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path))
    rival = settings(6).multitask()
    assert rival is not None
    assert rival.training_cost() is None


def test_models_of_ones_own_have_no_rival() -> None:
    config = settings(4)
    assert config.multitask() is not None
    assert config.model_copy(update={"base": "./models/base"}).multitask() is None
    mixed = {**config.experts, "leaf": "./models/leaf"}
    assert config.model_copy(update={"experts": mixed}).multitask() is None


def test_a_task_of_the_larger_zoo_is_told() -> None:
    tasks = {"leaf": "tiny://data/leaf", "focus": "tiny://data/focus"}
    config = settings(4).model_copy(
        update={"tasks": {name: TaskConfig(data=data) for name, data in tasks.items()}}
    )
    assert config.problems() == [
        "task 'focus': no 'tiny://data/focus' in a zoo of 4 tasks; set sources.tiny.tasks to 6"
    ]


@pytest.mark.parametrize("change", [{"conflict": 4}, {"conflict": -1}, {"tasks": 5}], ids=str)
def test_unknown_zoos_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SegmentationConfig(**{**settings(4).model_dump(), "sources": {"tiny": change}})


@pytest.mark.parametrize(
    ("preset", "tasks"), [("segmentation-conflict", 4), ("segmentation-conflict-6", 6)]
)
def test_presets_of_conflict_are_valid(preset: str, tasks: int) -> None:
    config = load_config(preset)
    assert config.backend.names() == list(ALL_TASKS[:tasks])
    assert config.backend.sources["tiny"].conflict > 0
    assert config.backend.multitask().problems() == []
    if tasks == 6:
        assert config.archive.name != "grid"


def test_steps_of_an_unknown_expert_are_told() -> None:
    with pytest.raises(ConfigError, match=r"expert_steps.*'leav'.*leaf"):
        load_config("segmentation-tiny", ["backend.training.expert_steps={leav: 5}"])
