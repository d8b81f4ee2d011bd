"""The experts at work on items of no split, for spaces that look at what layers receive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from qdmerge_llm.items import Item, content_hash

VERSION = 2
"""Part of the key: raise it whenever the meaning of what experts read changes."""

Written = tuple[list[int], list[int]]
"""The token ids that a model reads, and those that it writes."""
Answer = Callable[[Sequence[Item]], list[Written]]
"""Has the live model answer items."""


class ExpertCalibration:
    """A :class:`qdmerge.spaces.Calibration`: experts answer items of their own tasks.

    An expert first writes its answers, as in an evaluation, whose scores are not used. Then it
    reads every prompt with its answer, one at a time and so without padding.

    Args:
        module: The live model.
        experts: Expert to the names of its tasks and how each is answered.
        items: Name of a task to a function that returns at most so many items of it.
        settings: Name of a task to its settings, JSON-able.
        facts: Return what else decides the answers, JSON-able.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        experts: Mapping[str, Mapping[str, Answer]],
        items: Mapping[str, Callable[[int], Sequence[Item]]],
        settings: Mapping[str, Any],
        facts: Callable[[], Any],
    ) -> None:
        self.module = module
        self.experts = tuple(experts)
        self._tasks = experts
        self._items = items
        self._settings = settings
        self._facts = facts

    def key(self, examples: int) -> str:
        """Return a hash of items, tasks' settings, number type and chat template."""
        asked = [
            [expert, name, self._items[name](examples)]
            for expert, tasks in self._tasks.items()
            for name in tasks
        ]
        return content_hash([asked, self._settings, self._facts(), VERSION])

    def passes(self, expert: str, examples: int) -> Iterator[Callable[[], object]]:
        """Read prompts of the expert's tasks with the answers that the live model gives now."""
        device = next(self.module.parameters()).device
        for name, answer in self._tasks[expert].items():
            for read, written in answer(self._items[name](examples)):
                ids = torch.tensor([read + written], device=device)
                yield partial(self.module, input_ids=ids, use_cache=False)
