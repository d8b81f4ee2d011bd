"""Segmentation experts watched at work, and merged by what their layers receive."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.settings import parse_config
from qdmerge.spaces import RegMeanSpace
from qdmerge_segmentation.calibration import ExpertCalibration
from qdmerge_zoo.segmentation import TASKS
from tests.trained import segmentation_zoo


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    folder = segmentation_zoo()
    tasks = TASKS[:2]
    return {
        "name": "segmentation",
        "base": str(folder / "base"),
        "experts": {name: str(folder / name) for name in tasks},
        "tasks": {name: {"data": str(folder / "data" / name)} for name in tasks},
    }


def build(settings: dict[str, Any], cache: Path, examples: int) -> Any:
    space = partial(RegMeanSpace, rank=2, cache=cache, examples=examples)
    return parse_config({"backend": settings}).backend.build(space)


def watched(settings: dict[str, Any], cache: Path, examples: int = 3) -> list[int]:
    """How many images every expert sees while it is measured."""
    backend, seen = build(settings, cache, examples), []
    layer = next(m for m in backend.segmenter.module.modules() if isinstance(m, torch.nn.Conv2d))
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    list(backend.space.tensors(backend.space.x0))
    return seen


def test_what_is_watched_decides_what_is_measured_anew(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    assert watched(settings, tmp_path) == [3, 3]
    assert watched(settings, tmp_path) == []
    assert watched(settings, tmp_path, examples=4) == [4, 4]
    assert watched({**settings, "image_size": 48}, tmp_path) == [3, 3]


def test_experts_are_watched_on_training_images(settings: dict[str, Any], tmp_path: Path) -> None:
    backend = build(settings, tmp_path, 3)
    layer = next(m for m in backend.segmenter.module.modules() if isinstance(m, torch.nn.Conv2d))
    received: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0].clone()))
    list(backend.space.tensors(backend.space.x0))
    config = parse_config({"backend": settings}).backend
    for name in settings["experts"]:
        train = config.images(name, "train", 3)
        first, *received = received
        backend.segmenter.maps(backend.segmenter.inputs(train.images, train.masks))
        torch.testing.assert_close(first, received.pop())
        scored = {
            h for s in ("validation", "selection", "test") for h in config.images(name, s).hashes
        }
        assert not scored & set(train.hashes)


def test_auto_is_the_number_type_of_models_scores_and_what_is_measured(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = {}
    for found, dtype in ((True, "bfloat16"), (False, "float32")):
        capabilities = {"avx512_bf16": found}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c, raising=False)
        backends[dtype] = build({**settings, "dtype": "auto", "device": "cpu"}, tmp_path, 3)
        assert backends[dtype].facts()["dtype"] == dtype
    half, single = backends.values()
    x = half.space.regression_mean([0.5, 0.5])
    assert half.evaluate(x[None], "test").scores == pytest.approx(
        single.evaluate(x[None], "test").scores, abs=0.02
    )
    assert half.space.facts() != single.space.facts()
    merged = zip(half.space.tensors(x), single.space.tensors(x), strict=True)
    for (name, one), (_, other) in merged:
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.01, msg=name)


def test_a_run_of_the_unguided_search(settings: dict[str, Any], tmp_path: Path) -> None:
    path, run = tmp_path / "study.yaml", tmp_path / "run"
    small = {"evaluations": 14, "final": {"leading": 1, "bootstrap": 100}}
    path.write_text(yaml.safe_dump({"backend": settings, **small}))
    command = ["run", str(path), "--search", "unguided", "--out", str(run)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    results = json.loads((run / "results.json").read_text())
    assert results["failed"] == 0
    chosen = next(row for row in results["candidates"] if row["name"] == results["chosen"])
    assert np.isfinite(chosen["test_mean"])
    regmean = next(row for row in results["candidates"] if row["name"] == "regmean")
    assert np.isfinite(regmean["test_mean"])
    assert "regmean" in result.output


@pytest.mark.parametrize("command", ["run", "compare"])
def test_experts_that_cannot_be_watched_end_it_before_anything_is_evaluated(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def passes(self: ExpertCalibration, expert: str, examples: int) -> Any:
        raise torch.OutOfMemoryError("out of memory\non some device")

    monkeypatch.setattr(ExpertCalibration, "passes", passes)
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path / "cache"))
    path, out = tmp_path / "study.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump({"backend": settings}))
    options = {
        "run": ["--search", "unguided", "--evaluations", "14"],
        "compare": ["--methods", "regmean", "--seeds", "1", "--evaluations", "14"],
    }
    result = CliRunner().invoke(app, [command, str(path), *options[command], "--out", str(out)])
    assert result.exit_code == {"run": 1, "compare": 2}[command], result.output
    first = next(iter(settings["experts"]))
    assert f"expert '{first}' could not be run: out of memory" in " ".join(result.output.split())
    events = [json.loads(line)["event"] for log in out.glob("*.jsonl") for line in log.open()]
    assert events == {"run": ["start", "stop"], "compare": []}[command]
