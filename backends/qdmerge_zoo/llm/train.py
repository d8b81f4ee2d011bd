"""Training of the zoo's models, in processes of one thread so that one seed gives one result.

Run as ``python -m qdmerge_zoo.llm.train SPEC ZOO FOLDER NAME...``: reads the tokenizer in the
folder and the data in the zoo, perhaps the same; trains ``base``, or from the zoo's base ``all``
or the expert of a task; saves it in the folder under its name, and reports
``{"name", "done", "loss"}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from qdmerge.execution import Report, job_main
from qdmerge_llm.items import split_of
from qdmerge_zoo._zoos import ALL
from qdmerge_zoo.llm._build import BOS, EOS, PAD
from qdmerge_zoo.llm._items import TASKS
from qdmerge_zoo.llm._optimizers import optimizers
from qdmerge_zoo.llm._spec import Stage, ZooSpec

REPORT_EVERY = 10
"""Steps between two lines of progress."""
IGNORED = -100
"""The label of tokens without loss."""


class Sequences:
    """Token ids of one task's training items, in an order of its own, taken in turn."""

    def __init__(
        self, path: Path, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator
    ) -> None:
        with path.open() as lines:
            items = [item for item in map(json.loads, lines) if split_of(item["group"]) == "train"]
        prompts = tokenizer([item["prompt"] for item in items])["input_ids"]
        answers = tokenizer([item["answer"] for item in items], add_special_tokens=False)
        end = [tokenizer.eos_token_id]
        self._pairs = [(p, a + end) for p, a in zip(prompts, answers["input_ids"], strict=True)]
        self._rng = rng
        self._turn: Iterator[int] = iter(())

    def take(self, count: int) -> list[tuple[list[int], list[int]]]:
        """Return the next ``count`` (prompt, answer) pairs; reshuffle when all have been seen."""
        return [self._pairs[self._next()] for _ in range(count)]

    def _next(self) -> int:
        index = next(self._turn, None)
        if index is None:
            self._turn = iter(self._rng.permutation(len(self._pairs)).tolist())
            index = next(self._turn)
        return index


def collate(pairs: Sequence[tuple[list[int], list[int]]], pad: int) -> dict[str, torch.Tensor]:
    """Return right-padded ids and labels (answers only), each (batch, longest).

    Causal attention never looks right, so the padding needs no mask.
    """
    shape = (len(pairs), max(len(p) + len(a) for p, a in pairs))
    ids = torch.full(shape, pad)
    labels = torch.full(shape, IGNORED)
    for row, (prompt, answer) in enumerate(pairs):
        start, end = len(prompt), len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        labels[row, start:end] = torch.tensor(answer)
    return {"input_ids": ids, "labels": labels}


def shares(
    name: str, tasks: Sequence[str], batch: int, replay: float, rng: np.random.Generator
) -> dict[str, int]:
    """Return how many sequences of each task a batch of model ``name`` holds."""
    weights = np.full(len(tasks), 1 / len(tasks))
    if name in tasks:
        weights[:] = replay / (len(tasks) - 1)
        weights[tasks.index(name)] = 1 - replay
    return dict(zip(tasks, rng.multinomial(batch, weights).tolist(), strict=True))


def rate_at(step: int, stage: Stage) -> float:
    """Return the learning rate of a step as a fraction of its peak."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    left = (stage.steps - step) / max(1, stage.steps - stage.warmup)
    return stage.floor + (1 - stage.floor) * left


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer saved at ``path`` for transformers; it pads on the left."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def new_model(spec: ZooSpec, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return the untrained base."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        intermediate_size=spec.feedforward,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def train(name: str, spec: ZooSpec, zoo: Path, folder: Path, report: Report) -> None:
    """Train model ``name`` of a zoo and save it with its tokenizer in ``folder / name``."""
    number = 1 + ("base", *TASKS, ALL).index(name)
    *seeds, initial = np.random.SeedSequence([spec.seed, number]).spawn(2 + spec.tasks)
    mixing, *orders = (np.random.default_rng(seed) for seed in seeds)
    torch.manual_seed(int(initial.generate_state(1)[0]))
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    if name == "base":
        model = new_model(spec, tokenizer)
    else:
        model = AutoModelForCausalLM.from_pretrained(zoo / "base")
    stage = spec.stage(name)
    data = {
        task: Sequences(zoo / "data" / f"{task}.jsonl", tokenizer, order)
        for task, order in zip(spec.names, orders, strict=True)
    }
    both = optimizers(model, stage)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in both]
    model.train()
    losses: list[float] = []
    for step in range(stage.steps):
        counts = shares(name, spec.names, spec.batch, stage.replay, mixing)
        pairs = [pair for task, count in counts.items() for pair in data[task].take(count)]
        loss = model(**collate(pairs, tokenizer.pad_token_id)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in zip(both, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate_at(step, stage)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == stage.steps:
            loss = float(np.mean(losses[-REPORT_EVERY:]))
            report({"name": name, "done": step + 1, "loss": loss})
    model.eval()
    model.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / name)


def _work(report: Report) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    settings, zoo, folder, *names = sys.argv[1:]
    for name in names:
        train(name, ZooSpec.model_validate_json(settings), Path(zoo), Path(folder), report)


if __name__ == "__main__":
    job_main(_work)
