"""Trainings that were ended go on, and only where they may."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch
import yaml

from qdmerge.errors import RunError
from tests.backends.segmentation.conftest import Family
from tests.backends.segmentation.training.conftest import (
    MakeConfig,
    Stopped,
    ignore,
    make,
    models_of,
    of_kind,
    stop_at,
)
from tests.trained import same

TOLERANCE = 1e-5
KINDS = ("unet-batch", "segformer", "sam", "plain")


@pytest.fixture
def noise_stays_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """AdamW, but gradients far below the usual ones move weights in proportion.

    Otherwise it makes full steps of rounding noise wherever the true gradient is 0, as it is of
    the biases of attention keys and of those before a BatchNorm.
    """
    monkeypatch.setattr(torch.optim, "AdamW", partial(torch.optim.AdamW, eps=1e-3))


@pytest.mark.usefixtures("noise_stays_noise")
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_was_ended_goes_on_to_the_same_result(
    kind: str, family: Callable[[str], Family], config: MakeConfig, tmp_path: Path
) -> None:
    settings = config(steps=5, **of_kind(kind, family(kind)))
    weights = tmp_path / "models" / "a" / "model.safetensors"
    make("a", settings, ignore)
    os.rename(weights.parent, tmp_path / "at once")
    with pytest.raises(Stopped):
        make("a", settings, stop_at(2))
    assert not weights.parent.exists()
    seen: list[int] = []
    make("a", settings, lambda facts: seen.append(facts["done"]))
    assert seen[0] == 2
    assert same(weights, tmp_path / "at once" / weights.name, TOLERANCE)
    curves = [
        yaml.safe_load((tmp_path / folder / "training.yaml").read_text())["curve"]
        for folder in ("at once", "models/a")
    ]
    for one, other in zip(*curves, strict=True):
        assert one["validation"] == pytest.approx(other["validation"], abs=1e-2)
        assert one["step"] == other["step"]
        assert (one["loss"] is None) == (other["loss"] is None)
        if one["loss"] is not None:
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


CHANGES: dict[str, Any] = {
    "rate": {"training": {"base": {"rate": 2e-3}}},
    "seed": {"training": {"seed": 1}},
    "augmentation": {"training": {"augment": False}},
    "images": {"split_seed": 3},
    "image size": {"image_size": 24},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_of_other_settings_is_discarded(
    change: str, config: MakeConfig, start: str, tmp_path: Path
) -> None:
    started = {"start": start}
    with pytest.raises(Stopped):
        make("base", config(steps=5, training=started), stop_at(4))
    changed = {**CHANGES[change], "training": started | CHANGES[change].get("training", {})}
    seen: list[int] = []
    make("base", config(steps=5, **changed), lambda facts: seen.append(facts["done"]))
    assert seen[0] == 0


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.pt", "position.json"])
def test_a_damaged_state_is_discarded(
    name: str, config: MakeConfig, start: str, tmp_path: Path
) -> None:
    settings = config(steps=5, training={"start": start})
    with pytest.raises(Stopped):
        make("base", settings, stop_at(4))
    (tmp_path / "models/base.training/step-4" / name).write_bytes(b"{")
    seen: list[int] = []
    make("base", settings, lambda facts: seen.append(facts["done"]))
    assert seen[0] == 0
    assert (tmp_path / "models/base").is_dir()


def test_two_processes_do_not_train_one_model(config: MakeConfig, tmp_path: Path) -> None:
    settings = config()
    state = models_of(settings)["base"].target.with_name("base.training")
    state.mkdir(parents=True)
    with (
        filelock.FileLock(state / "lock"),
        pytest.raises(RunError, match=r"another process is training \S+base; wait"),
    ):
        make("base", settings, ignore)
