"""The exercises of all tasks: drawn from one seed, never twice the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from qdmerge_zoo.llm._grammar import Item
from qdmerge_zoo.llm._python import Functions, Patterns
from qdmerge_zoo.llm._shell import Folders, Scripts
from qdmerge_zoo.llm._sql import Pairs, Tables


class Material(Protocol):
    """What the exercises of a task are drawn from."""

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where the drawn one asks for nothing."""


GRAMMARS: Mapping[str, Callable[[np.random.Generator], Material]] = {
    "coding": Functions,
    "db": Tables,
    "os": Folders,
    "regex": Patterns,
    "joins": Pairs,
    "sed": Scripts,
}
"""For each task, the material that its exercises are drawn from; small zoos have the first ones."""
TASKS: tuple[str, ...] = tuple(GRAMMARS)


def items(task: str, count: int, seed: int = 0) -> list[Item]:
    """Return ``count`` exercises of ``task`` whose prompts all differ.

    The same arguments give the same exercises; the first ones do not depend on ``count``.
    """
    rng = np.random.default_rng([seed, TASKS.index(task)])
    material = GRAMMARS[task](rng)
    found: dict[str, Item] = {}
    while len(found) < count:
        item = material.draw(rng)
        if item is not None:
            found.setdefault(item.prompt, item)
    return list(found.values())
