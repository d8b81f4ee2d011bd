"""The batches of a training: all of them planned before it starts, from its seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from qdmerge_llm.training._config import LoRAConfig
from qdmerge_llm.training._conversations import Example

if TYPE_CHECKING:
    import torch

NOT_LEARNED = -100
"""The label that PyTorch's cross entropy leaves out."""

CHUNK = 16
"""Batches' worth of shuffled conversations that are sorted by length together."""


def plan(lengths: Sequence[int], settings: LoRAConfig) -> list[list[int]]:
    """Return the conversations of every step, those of similar length together.

    Args:
        lengths: Length of every conversation, in tokens.
        settings: Decides the number of steps, their size and the order.
    """
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
    """Take off what all conversations begin with, and pad the rests on the left.

    So the system prompt that they share is computed once, and their ends, which are learned, lie
    together.

    Returns:
        int64 tensors: ``prefix`` of shape (1, common length); ``input_ids``, ``position_ids`` and
        ``labels``, -100 where nothing is learned, of shape (conversations, length of the rests);
        ``attention_mask``, as wide as prefix and rests together.
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
    """How many tokens all examples begin with, up to one before the first that is learned."""
    ends = [example.learned.index(True) - 1 for example in examples]
    shared = takewhile(
        lambda tokens: len(set(tokens)) == 1, zip(*(e.ids for e in examples), strict=False)
    )
    return max(0, min(sum(1 for _ in shared), *ends))
