"""The tiny presets: a base and its experts that are generated and trained, never downloaded.

- :func:`zoo`: build them once into a cache and return the folder
- :func:`multitask`, :func:`multitask_cost`: the base fine-tuned on all tasks instead
- :class:`Recipe`, :class:`Stage`: every number of their making; :data:`CONFLICTS`: how much the
  experts get in each other's way
- :func:`items`, :data:`TASKS`: the exercises of all tasks; a zoo has the first ones

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from qdmerge_zoo.llm._grammar import Item
from qdmerge_zoo.llm._items import ALL_TASKS, TASKS, items
from qdmerge_zoo.llm._recipe import ALL, CONFLICTS, Recipe, Stage
from qdmerge_zoo.llm._zoo import multitask, multitask_cost, zoo

__all__ = [
    "ALL",
    "ALL_TASKS",
    "CONFLICTS",
    "TASKS",
    "Item",
    "Recipe",
    "Stage",
    "items",
    "multitask",
    "multitask_cost",
    "zoo",
]
