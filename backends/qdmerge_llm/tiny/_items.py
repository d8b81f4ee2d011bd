"""The exercises of the three tasks: drawn from one seed, never twice the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ._coding import Functions
from ._db import Tables
from ._grammar import Item
from ._os import Folders

GRAMMARS: Mapping[str, type[Functions] | type[Tables] | type[Folders]] = {
    "coding": Functions,
    "db": Tables,
    "os": Folders,
}
"""For each task, the material that its exercises are drawn from."""
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
