"""Training of the models that a configuration names and that are not there yet.

- :func:`make_models`: trains base and experts, each in a process of its own.
- :func:`missing_models`: which they are, and what keeps them from being made.
- :func:`trained_images`: what a model that was made so was trained on.
- :func:`training_seconds`: how long that took.

Importing this package imports neither torch nor transformers.
"""

from __future__ import annotations

from qdmerge_segmentation.training._make import make_models
from qdmerge_segmentation.training._plan import missing_models
from qdmerge_segmentation.training._record import trained_images, training_seconds

__all__ = ["make_models", "missing_models", "trained_images", "training_seconds"]
