"""Zoos of language models: a base, its experts and their exercises, generated and trained.

- :data:`ZOOS`: builds them once into a cache; so do :func:`zoo`, :func:`multitask` (the base
  fine-tuned on all tasks instead) and :func:`multitask_cost`
- :class:`ZooSpec`, :class:`Stage`: every number of their making; :data:`CONFLICTS`: how much the
  experts get in each other's way
- :func:`items`, :data:`TASKS`: the exercises of all tasks; a zoo has the first ones

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from qdmerge_zoo._zoos import ALL, Zoos
from qdmerge_zoo.llm._build import build, build_all, cost
from qdmerge_zoo.llm._grammar import Item
from qdmerge_zoo.llm._items import TASKS, items
from qdmerge_zoo.llm._spec import CONFLICTS, Stage, ZooSpec

ZOOS = Zoos("llm", "The tiny language models", ZooSpec.of, TASKS, build, build_all, cost)
"""The zoos of language models."""
zoo, multitask, multitask_cost = ZOOS.zoo, ZOOS.multitask, ZOOS.multitask_cost

__all__ = [
    "ALL",
    "CONFLICTS",
    "TASKS",
    "ZOOS",
    "Item",
    "Stage",
    "ZooSpec",
    "items",
    "multitask",
    "multitask_cost",
    "zoo",
]
