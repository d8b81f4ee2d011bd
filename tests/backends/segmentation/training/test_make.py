"""Models are made in processes of their own, which may be killed at any time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.backends.segmentation.training.conftest import MakeConfig, ignore, make
from tests.trained import same

WEIGHTS = "model.safetensors"


def test_a_killed_process_leaves_what_is_needed_to_end_in_the_same_weights(
    config: MakeConfig, start: str, tmp_path: Path
) -> None:
    started = {"start": start}
    models = tmp_path / "models"
    settings = config(
        experts={"a": str(models / "a")}, steps=40, training=started | {"validate_every": 2}
    )
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("base", "a"):
        make(name, settings, ignore)
    torch.set_num_threads(before)
    at_once = models.rename(tmp_path / "at once")
    assert not same(at_once / "base" / WEIGHTS, at_once / "a" / WEIGHTS)

    def killing(name: str, done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt  # and the process is killed with SIGKILL

    with pytest.raises(KeyboardInterrupt):
        settings.make_experts(killing)
    assert [path.name for path in models.iterdir()] == ["base.training"]
    assert list((models / "base.training").glob("step-*"))

    calls: list[tuple[str, int, int]] = []
    made = settings.make_experts(lambda *call: calls.append(call))
    assert made == {"base": models / "base", "a": models / "a"}
    resumed = [done for name, done, _ in calls if name == "base"]
    assert resumed[0] == 0
    assert resumed[1] >= 4
    assert [call for call in calls if call[1] == call[2]] == [("base", 40, 40), ("a", 40, 40)]
    assert all(same(models / name / WEIGHTS, at_once / name / WEIGHTS) for name in made)
    assert sorted(path.name for path in models.iterdir()) == ["a", "base", "training.png"]

    calls.clear()
    assert settings.make_experts(lambda *call: calls.append(call)) == {}
    assert calls == [("base is there", 1, 1), ("a is there", 1, 1)]
