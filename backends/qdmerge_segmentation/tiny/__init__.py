"""The tiny preset: a base, four experts and their images, generated and trained, never downloaded.

- :func:`zoo`: build them once into a cache and return the folder
- :class:`Recipe`: every number of their making
- :func:`generate`, :data:`TASKS`: the images of the four tasks

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from ._build import Progress
from ._images import TASKS, generate
from ._recipe import Recipe
from ._zoo import zoo

__all__ = ["TASKS", "Progress", "Recipe", "generate", "zoo"]
