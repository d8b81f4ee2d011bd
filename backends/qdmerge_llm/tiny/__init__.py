"""The tiny preset: a base and three experts that are generated and trained, never downloaded.

- :func:`zoo`: build them once into a cache and return the folder
- :class:`Recipe`, :class:`Stage`: every number of their making
- :func:`items`, :data:`TASKS`: the exercises of the three tasks

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from ._build import Progress
from ._grammar import Item
from ._items import TASKS, items
from ._recipe import Recipe, Stage
from ._zoo import zoo

__all__ = ["TASKS", "Item", "Progress", "Recipe", "Stage", "items", "zoo"]
