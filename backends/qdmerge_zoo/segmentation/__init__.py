"""Zoos of segmentation models: a base, its experts and their images, generated and trained.

- :data:`ZOOS`: builds them once into a cache; so do :func:`zoo`, :func:`multitask` (the base
  fine-tuned on all tasks instead) and :func:`multitask_cost`
- :class:`ZooSpec`: every number of their making
- :func:`generate`, :data:`TASKS`, :data:`ALL_TASKS`: the images of the four or all six tasks

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from qdmerge_zoo._zoos import Zoos
from qdmerge_zoo.segmentation._build import build, build_all, cost
from qdmerge_zoo.segmentation._images import ALL_TASKS, TASKS, generate
from qdmerge_zoo.segmentation._spec import ZooSpec

ZOOS = Zoos(
    "segmentation", "The tiny segmentation models", ZooSpec.of, ALL_TASKS, build, build_all, cost
)
"""The zoos of segmentation models."""
zoo, multitask, multitask_cost = ZOOS.zoo, ZOOS.multitask, ZOOS.multitask_cost

__all__ = [
    "ALL_TASKS",
    "TASKS",
    "ZOOS",
    "ZooSpec",
    "generate",
    "multitask",
    "multitask_cost",
    "zoo",
]
