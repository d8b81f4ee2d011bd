"""Building a zoo in an empty folder: data, tokenizer, base, then the experts two at a time."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from qdmerge.errors import RunError
from qdmerge_llm.splits import split_of

from ._items import TASKS, items
from ._recipe import VERSION, Recipe
from ._tokenizer import train_tokenizer

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the steps done and the steps in all; also from other threads."""

PROCESSES = 2
"""Experts trained at a time, one thread each."""
_MEASURED = ("torch", "transformers", "tokenizers", "numpy")


def build(recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Build the zoo of ``recipe`` in ``folder`` and finish it with ``recipe.json``.

    Raises:
        RunError: If the training of a model fails; the message ends with what it printed.
    """
    started = time.perf_counter()
    (folder / "settings.json").write_text(recipe.dump())
    progress("data", 0, 1)
    _write_data(recipe, folder)
    progress("data", 1, 1)
    losses = _train(["base"], folder, recipe.base.steps, progress)
    shares = [TASKS[first::PROCESSES] for first in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        trained = [
            pool.submit(_train, share, folder, recipe.expert.steps, progress) for share in shares
        ]
        for future in trained:
            losses |= future.result()
    for scratch in ("settings.json", "tokenizer.json"):
        (folder / scratch).unlink()
    facts = {
        "version": VERSION,
        "settings": json.loads(recipe.dump()),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in _MEASURED},
        },
        "final_loss": losses,
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


def _train(names: Sequence[str], folder: Path, steps: int, progress: Progress) -> dict[str, float]:
    """Train models one after the other in a process of their own; return their last losses."""
    command = [sys.executable, "-m", "qdmerge_llm.tiny._train", str(folder), *names]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    losses: dict[str, float] = {}
    with (
        tempfile.TemporaryFile("w+") as noise,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=noise, text=True, env=environment
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                report = json.loads(line)
                losses[report["name"]] = report["loss"]
                progress(report["name"], report["done"], steps)
        except BaseException:
            process.kill()
            raise
        if process.wait():
            noise.seek(0)
            raise RunError(
                f"Training {' and '.join(names)} of the tiny language models failed "
                f"(exit status {process.returncode}). It printed:\n{noise.read()[-2000:]}"
            )
    return losses
