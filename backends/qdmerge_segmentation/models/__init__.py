"""Segmentation models as the backend sees them: images in, foreground log-odds out.

- :class:`Segmenter`: a live module with its preprocessing.
- :func:`load_segmenter`: what transformers loads for semantic segmentation, Segment Anything, or
  any torch module by factory.
- :func:`model_problems`: what keeps a model from being loaded, from its files' names and
  ``config.json`` alone.
- :func:`predict`: masks in the images' own size.
- :func:`has_batch_norm`, :func:`reestimate_batch_norm`: statistics that are not to be merged.
- :class:`UNetConfig`, :class:`UNetForSemanticSegmentation`: a small model of our own.

Names that need torch are imported on first use, so that importing this package stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qdmerge_segmentation.models._check import PROMPTS, Prompt, model_problems

if TYPE_CHECKING:
    from qdmerge_segmentation.models._base import Segmenter
    from qdmerge_segmentation.models._batch_norm import has_batch_norm, reestimate_batch_norm
    from qdmerge_segmentation.models._load import load_segmenter
    from qdmerge_segmentation.models._predict import predict
    from qdmerge_segmentation.models.modeling_unet import UNetConfig, UNetForSemanticSegmentation

_NEEDS_TORCH = {
    "Segmenter": "_base",
    "UNetConfig": "modeling_unet",
    "UNetForSemanticSegmentation": "modeling_unet",
    "has_batch_norm": "_batch_norm",
    "load_segmenter": "_load",
    "predict": "_predict",
    "reestimate_batch_norm": "_batch_norm",
}

__all__ = [
    "PROMPTS",
    "Prompt",
    "Segmenter",
    "UNetConfig",
    "UNetForSemanticSegmentation",
    "has_batch_norm",
    "load_segmenter",
    "model_problems",
    "predict",
    "reestimate_batch_norm",
]


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
