"""Building in an empty folder: a zoo (data, tokenizer, base, then the experts two at a time), or
the model that is fine-tuned on all tasks.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qdmerge.backend import Progress
from qdmerge.execution import Job, run_jobs
from qdmerge_llm.items import split_of
from qdmerge_zoo.llm._items import items
from qdmerge_zoo.llm._recipe import ALL, VERSION, Recipe
from qdmerge_zoo.llm._tokenizer import train_tokenizer

PROCESSES = 2
"""Experts trained at a time, one thread each."""
_MEASURED = ("torch", "transformers", "tokenizers", "numpy")


def build(recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Build the zoo of ``recipe`` in ``folder`` and finish it with ``recipe.json``.

    Raises:
        RunError: If the training of a model fails; the message ends with the cause.
    """
    started = time.perf_counter()
    progress("data", 0, 1)
    _write_data(recipe, folder)
    progress("data", 1, 1)
    losses = _train(recipe, folder, folder, [["base"]], progress)
    shares = [recipe.names[first::PROCESSES] for first in range(PROCESSES)]
    losses |= _train(recipe, folder, folder, shares, progress)
    (folder / "tokenizer.json").unlink()
    losses = {name: losses[name] for name in ("base", *recipe.names)}
    _write_facts(recipe, folder, final_loss=losses, seconds=_since(started))


def build_all(recipe: Recipe, zoo: Path, folder: Path, progress: Progress) -> None:
    """Fine-tune the base of ``zoo`` on all its tasks, in ``folder``; finish with ``recipe.json``.

    Raises:
        RunError: If the training fails; the message ends with the cause.
    """
    started = time.perf_counter()
    shutil.copy(zoo / "base" / "tokenizer.json", folder)
    losses = _train(recipe, zoo, folder, [[ALL]], progress)
    (folder / "tokenizer.json").unlink()
    steps = recipe.stage(ALL).steps
    cost = {"steps": steps, "examples": steps * recipe.batch, "seconds": _since(started)}
    _write_facts(recipe, folder, final_loss=losses, **cost)


def _train(
    recipe: Recipe, zoo: Path, folder: Path, shares: Sequence[Sequence[str]], progress: Progress
) -> dict[str, float]:
    """Train models at a time into ``folder``, each share one after the other; return last losses.

    Args:
        recipe: Of the zoo.
        zoo: Folder of the data, and of the base where others are trained from it.
        folder: Holds the tokenizer, and receives the models.
        shares: Names of the models that each process trains.
        progress: Is told of each model.
    """
    losses: dict[str, float] = {}

    def note(report: dict[str, Any]) -> None:
        losses[report["name"]] = report["loss"]
        progress(report["name"], report["done"], recipe.stage(report["name"]).steps)

    settings = folder / "settings.json"
    settings.write_text(recipe.dump())
    run_jobs([_job(zoo, folder, share) for share in shares], PROCESSES, note)
    settings.unlink()
    return losses


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 1)


def _write_facts(recipe: Recipe, folder: Path, **facts: Any) -> None:
    """Write ``recipe.json``: settings and versions, and what was measured."""
    versions = {name: version(name) for name in _MEASURED}
    known = {
        "version": VERSION,
        "settings": json.loads(recipe.dump()),
        "versions": {"python": platform.python_version(), **versions},
    }
    (folder / "recipe.json").write_text(json.dumps(known | facts, indent=2) + "\n")


def _write_data(recipe: Recipe, folder: Path) -> None:
    """Write every task's items and the tokenizer that their training items teach."""
    (folder / "data").mkdir()
    texts: list[str] = []
    for task in recipe.names:
        drawn = items(task, recipe.items, recipe.seed)
        lines = (json.dumps(item.record()) + "\n" for item in drawn)
        (folder / "data" / f"{task}.jsonl").write_text("".join(lines))
        texts += [i.prompt + i.answer for i in drawn if split_of(i.group) == "train"]
    train_tokenizer(texts, recipe.vocabulary, folder / "tokenizer.json")


def _job(zoo: Path, folder: Path, names: Sequence[str]) -> Job:
    """Training of models, one after the other."""
    what = f"Training {' and '.join(names)} of the tiny language models"
    return Job(what, "qdmerge_zoo.llm._train", (str(zoo), str(folder), *names))
