"""Building zoos of language models: the data, the tokenizer, and what trains the models."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qdmerge.checkpoints import Progress
from qdmerge.execution import Job, run_jobs
from qdmerge_llm.items import split_of
from qdmerge_zoo._zoos import ALL, FACTS, write_facts
from qdmerge_zoo.llm._items import items
from qdmerge_zoo.llm._spec import ZooSpec

PROCESSES = 2
"""Experts trained at a time, one thread each."""
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def build(spec: ZooSpec, folder: Path, progress: Progress) -> None:
    """Build a zoo in an empty folder: data, base, then the experts side by side.

    Raises:
        RunError: The training of a model fails; the message ends with the cause.
    """
    started = time.perf_counter()
    progress("data", 0, 1)
    _write_data(spec, folder)
    progress("data", 1, 1)
    losses = _train(spec, folder, folder, [["base"]], progress)
    shares = [spec.names[first::PROCESSES] for first in range(PROCESSES)]
    losses |= _train(spec, folder, folder, shares, progress)
    (folder / "tokenizer.json").unlink()
    losses = {name: losses[name] for name in ("base", *spec.names)}
    write_facts(spec, folder, _PACKAGES, started, final_loss=losses)


def build_all(spec: ZooSpec, zoo: Path, folder: Path, progress: Progress) -> None:
    """Fine-tune the base of a zoo on all its tasks, in an empty folder.

    Raises:
        RunError: The training fails; the message ends with the cause.
    """
    started = time.perf_counter()
    shutil.copy(zoo / "base" / "tokenizer.json", folder)
    losses = _train(spec, zoo, folder, [[ALL]], progress)
    (folder / "tokenizer.json").unlink()
    steps = spec.stage(ALL).steps
    seen = {"steps": steps, "examples": steps * spec.batch}
    write_facts(spec, folder, _PACKAGES, started, final_loss=losses, **seen)


def cost(spec: ZooSpec, folder: Path) -> dict[str, float]:
    """Return what the model that :func:`build_all` left in a folder cost to train."""
    facts = json.loads((folder / FACTS).read_text())
    return {name: float(facts[name]) for name in ("steps", "examples", "seconds")}


def _train(
    spec: ZooSpec, zoo: Path, folder: Path, shares: Sequence[Sequence[str]], progress: Progress
) -> dict[str, float]:
    """Train models at a time into ``folder``, which holds the tokenizer, each share one after the
    other; return last losses. Data and base are those of ``zoo``.
    """
    losses: dict[str, float] = {}

    def note(report: dict[str, Any]) -> None:
        losses[report["name"]] = report["loss"]
        progress(report["name"], report["done"], spec.stage(report["name"]).steps)

    jobs = [
        Job(
            f"Training {' and '.join(names)} of the tiny language models",
            "qdmerge_zoo.llm.train",
            (spec.dump(), str(zoo), str(folder), *names),
        )
        for names in shares
    ]
    run_jobs(jobs, PROCESSES, note)
    return losses


def _write_data(spec: ZooSpec, folder: Path) -> None:
    """Write every task's items and the tokenizer that their training items teach."""
    (folder / "data").mkdir()
    texts: list[str] = []
    for task in spec.names:
        drawn = items(task, spec.items, spec.seed)
        lines = (json.dumps(item.record()) + "\n" for item in drawn)
        (folder / "data" / f"{task}.jsonl").write_text("".join(lines))
        texts += [i.prompt + i.answer for i in drawn if split_of(i.group) == "train"]
    train_tokenizer(texts, spec.vocabulary, folder / "tokenizer.json")


def train_tokenizer(texts: Iterable[str], size: int, path: Path) -> None:
    """Learn a BPE of at most ``size`` tokens, in which every digit stands alone; save it. Encoding
    puts ``<s>`` in front unless special tokens are switched off.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    tokenizer.save(str(path))
