"""Conversations as a model sees them, and the batches of a training."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdmerge.errors import ConfigError
from qdmerge_llm.items import read_rows
from qdmerge_llm.training._config import LoRAConfig

if TYPE_CHECKING:
    import torch

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Example:
    """One conversation: its token ids, and for each whether the model learns to write it."""

    ids: list[int]
    learned: list[bool]


def read_conversations(path: Path) -> list[list[dict[str, str]]]:
    """Read rows of ``{"messages": [{"role", "content"}, ...]}`` in a form of ``read_rows``;
    ConfigError, with file and line, for a row in which no assistant speaks.
    """
    found = []
    for where, row in read_rows(path):
        if reason := _problem(row):
            raise ConfigError(f"{path}, {where}: {reason}.")
        found.append([{key: turn[key] for key in ("role", "content")} for turn in row["messages"]])
    if not found:
        raise ConfigError(f"{path}: no conversations in it.")
    return found


def _problem(row: Any) -> str | None:
    """Return what is wrong with the form of a line, or None."""
    messages = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(messages, list) or not messages:
        return 'expected {"messages": [{"role": ..., "content": ...}, ...]}'
    for position, turn in enumerate(messages, start=1):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("content"), str):
            return f"message {position} has no text under 'content'"
        if turn.get("role") not in ROLES:
            return f"message {position} has role {turn.get('role')!r}, not one of {list(ROLES)}"
    if all(turn["role"] != "assistant" for turn in messages):
        return "no message has role 'assistant': nothing to learn"
    return None


def encode(messages: Sequence[Mapping[str, str]], tokenizer: Any) -> Example:
    """Tokenize a conversation by the chat template. Assistant turns are tokenized by themselves, so
    that learning begins at the token where generation begins.
    """
    ids: list[int] = []
    learned: list[bool] = []
    done = ""

    def add(text: str, own: bool) -> None:
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids.extend(piece)
        learned.extend([own] * len(piece))

    for end, turn in enumerate(messages):
        if turn["role"] != "assistant":
            continue
        before = _templated(messages[:end], tokenizer, generate=True)
        after = _templated(messages[: end + 1], tokenizer, generate=False)
        if not (before.startswith(done) and after.startswith(before)):
            raise ConfigError(
                "the base's chat template rewrites earlier turns of a conversation; "
                "such a template cannot be trained on"
            )
        add(before[len(done) :], own=False)
        add(after[len(before) :], own=True)
        done = after
    return Example(ids, learned)


def _templated(messages: Sequence[Mapping[str, str]], tokenizer: Any, generate: bool) -> str:
    return tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=generate
    )


NOT_LEARNED = -100
"""The label that PyTorch's cross entropy leaves out."""

CHUNK = 16
"""Batches' worth of shuffled conversations that are sorted by length together."""


def plan(lengths: Sequence[int], settings: LoRAConfig) -> list[list[int]]:
    """Return the conversations of every step, those of similar length (in tokens) together."""
    rng = random.Random(settings.seed)
    size = settings.batch_size
    steps: list[list[int]] = []
    for _ in range(settings.epochs):
        order = rng.sample(range(len(lengths)), len(lengths))
        epoch = []
        for first in range(0, len(order), CHUNK * size):
            chunk = sorted(order[first : first + CHUNK * size], key=lambda i: lengths[i])
            epoch += [chunk[at : at + size] for at in range(0, len(chunk), size)]
        rng.shuffle(epoch)
        steps += epoch
    return steps[: settings.steps]


def collate(examples: Sequence[Example], pad: int) -> dict[str, torch.Tensor]:
    """Move the common beginning to ``prefix`` (1, length), computed once; pad the rests on the
    left. ``attention_mask`` spans both; ``labels`` are -100 where nothing is learned.
    """
    import torch

    common = _common(examples)
    width = max(len(example.ids) for example in examples) - common
    shape = (len(examples), width)
    ids, labels = torch.full(shape, pad), torch.full(shape, NOT_LEARNED)
    mask = torch.zeros(shape, dtype=torch.int64)
    for row, example in enumerate(examples):
        tokens = torch.tensor(example.ids[common:])
        learned = torch.tensor(example.learned[common:])
        start = width - len(tokens)
        ids[row, start:] = tokens
        labels[row, start:] = torch.where(learned, tokens, NOT_LEARNED)
        mask[row, start:] = 1
    return {
        "prefix": torch.tensor([examples[0].ids[:common]], dtype=torch.int64),
        "input_ids": ids,
        "attention_mask": torch.cat([mask.new_ones((len(examples), common)), mask], dim=1),
        "position_ids": common + (mask.cumsum(1) - 1).clamp(min=0),
        "labels": labels,
    }


def _common(examples: Sequence[Example]) -> int:
    """Return how many tokens all examples share, up to one before the first learned."""
    ends = [example.learned.index(True) - 1 for example in examples]
    shared = takewhile(
        lambda tokens: len(set(tokens)) == 1, zip(*(e.ids for e in examples), strict=False)
    )
    return max(0, min(sum(1 for _ in shared), *ends))
