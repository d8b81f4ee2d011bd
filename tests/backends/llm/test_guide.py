"""What experts say on unlabeled prompts, and how far another model is from saying it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdmerge.spaces import ExpertSpace
from qdmerge_llm.config import LLMConfig
from qdmerge_llm.sandbox import Sandbox
from tests.backends.llm.conftest import TASKS, Micro

PROMPTS = 5


@pytest.fixture(scope="module")
def settings(micro: Micro, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Settings with a file of prompts for each task, without labels and ids."""
    folder = tmp_path_factory.mktemp("prompts")
    found = micro.config()
    for name in TASKS:
        words = [item["prompt"].split()[0] for item in micro.items[name]]
        rows = [{"prompt": f"{word} {100 + k}"} for k, word in enumerate(words[:PROMPTS])]
        found["tasks"][name]["guide"] = {"data": write(folder / f"{name}.jsonl", rows)}
    return found


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QDMERGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def build(settings: Any, **guide: Any) -> Any:
    return LLMConfig(**{**settings, "guide": guide}).build(ExpertSpace)


def everything(guide: Any) -> dict[str, np.ndarray]:
    return {task: np.arange(size) for task, size in guide.sizes.items()}


def test_an_expert_says_what_it_says(settings: Any) -> None:
    guide = build(settings).guide
    for task, rows in everything(guide).items():
        assert len(rows) == PROMPTS
        own = guide.space.seeds[task]
        losses, gradient = guide.gradient(own, {task: rows}, {task: 1.0})
        away, slope = guide.gradient(guide.space.x0, {task: rows}, {task: 1.0})
        assert abs(losses[task]) < 1e-6 < 1e-3 < away[task]
        assert np.abs(gradient).max() < 1e-3 * np.abs(slope).max()
