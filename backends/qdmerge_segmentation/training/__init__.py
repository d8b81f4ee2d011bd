"""Training of missing models, from plain settings and images; importing it loads no torch.

- :class:`TrainingConfig`, :class:`StageConfig`: how models are trained.
- :class:`Plan`, :class:`Model`, :class:`TrainingTask`: the models to train, and on what.
- :func:`make_models`: train base and experts, each in a process of its own.
- :func:`missing_models`: list those to train, and what prevents it.
- :func:`trained_images`, :func:`training_seconds`: read the history of a trained model.
"""

from __future__ import annotations

from qdmerge_segmentation.training._make import make_models, missing_models
from qdmerge_segmentation.training._plan import (
    UNET,
    Model,
    Plan,
    StageConfig,
    TrainingConfig,
    TrainingTask,
)
from qdmerge_segmentation.training._record import trained_images, training_seconds

__all__ = [
    "UNET",
    "Model",
    "Plan",
    "StageConfig",
    "TrainingConfig",
    "TrainingTask",
    "make_models",
    "missing_models",
    "trained_images",
    "training_seconds",
]
