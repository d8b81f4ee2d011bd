"""Tiny zoos: a base, four or six experts, their images; generated and trained, not downloaded.

- :func:`zoo`: build them once into a cache and return the folder
- :func:`multitask`, :func:`multitask_cost`: the base fine-tuned on all tasks
- :class:`Recipe`: every number of their making
- :func:`generate`, :data:`TASKS`, :data:`ALL_TASKS`: the images of the four or all six tasks

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from qdmerge_zoo.segmentation._images import ALL_TASKS, TASKS, generate
from qdmerge_zoo.segmentation._multitask import multitask, multitask_cost, multitask_place
from qdmerge_zoo.segmentation._recipe import Recipe
from qdmerge_zoo.segmentation._zoo import zoo

__all__ = [
    "ALL_TASKS",
    "TASKS",
    "Recipe",
    "generate",
    "multitask",
    "multitask_cost",
    "multitask_place",
    "zoo",
]
