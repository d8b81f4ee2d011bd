"""Building a zoo in an empty folder: data, tokenizer, base, then the experts two at a time."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qdmerge.execution import Job, run_jobs
from qdmerge_llm.splits import split_of

from ._items import TASKS, items
from ._recipe import VERSION, Recipe
from ._tokenizer import train_tokenizer

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the steps done and the steps in all."""

PROCESSES = 2
"""Experts trained at a time, one thread each."""
_MEASURED = ("torch", "transformers", "tokenizers", "numpy")


def build(recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Build the zoo of ``recipe`` in ``folder`` and finish it with ``recipe.json``.

    Raises:
        RunError: If the training of a model fails; the message ends with the cause.
    """
    started = time.perf_counter()
    (folder / "settings.json").write_text(recipe.dump())
    progress("data", 0, 1)
    _write_data(recipe, folder)
    progress("data", 1, 1)
    losses: dict[str, float] = {}

    def train(jobs: Sequence[Job], steps: int) -> None:
        def note(report: dict[str, Any]) -> None:
            losses[report["name"]] = report["loss"]
            progress(report["name"], report["done"], steps)

        run_jobs(jobs, PROCESSES, note)

    train([_job(folder, ["base"])], recipe.base.steps)
    shares = [TASKS[first::PROCESSES] for first in range(PROCESSES)]
    train([_job(folder, share) for share in shares], recipe.expert.steps)
    for scratch in ("settings.json", "tokenizer.json"):
        (folder / scratch).unlink()
    facts = {
        "version": VERSION,
        "settings": json.loads(recipe.dump()),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _MEASURED},
        },
        "final_loss": {name: losses[name] for name in ("base", *TASKS)},
        "seconds": round(time.perf_counter() - started, 1),
    }
    (folder / "recipe.json").write_text(json.dumps(facts, indent=2) + "\n")


def _write_data(recipe: Recipe, folder: Path) -> None:
    """Write every task's items and the tokenizer that their training items teach."""
    (folder / "data").mkdir()
    texts: list[str] = []
    for task in TASKS:
        drawn = items(task, recipe.items, recipe.seed)
        lines = (json.dumps(item.record()) + "\n" for item in drawn)
        (folder / "data" / f"{task}.jsonl").write_text("".join(lines))
        texts += [i.prompt + i.answer for i in drawn if split_of(i.group) == "train"]
    train_tokenizer(texts, recipe.vocabulary, folder / "tokenizer.json")


def _job(folder: Path, names: Sequence[str]) -> Job:
    """Training of models, one after the other."""
    what = f"Training {' and '.join(names)} of the tiny language models"
    return Job(what, "qdmerge_llm.tiny._train", (str(folder), *names))
