"""Spaces: what a solution vector ``x`` means.

Every model that linear merging can reach is ``theta_base + (a linear map)(x)``; a space knows the
map. Regression means are not linear: they are weighted by what layers receive. Spaces of merging
recipes that are not linear either (TIES, DARE, SLERP) are in :mod:`qdmerge.baselines`.

- :class:`Space`: dimension, bounds and seeds; all that archives, emitters and operators see.
- :class:`VectorSpace`: a free, possibly bounded vector, for domains without weights.
- :class:`WeightSpace`: a space whose vectors are model weights: express, export.
- :class:`LinearSpace`: a weight space with a linear map: merge, export as an adapter.
- :class:`ExpertSpace`: one coordinate per expert.
- :class:`LayerSpace`: one coordinate per expert and group of tensors.
- :class:`SpectralSpace`: multipliers on the singular components of every task vector.
- :class:`CoreSpace`: per matrix a small core between bases that all experts share.
- :class:`RegMeanSpace`: weights of regression means, which look at what layers receive.
- :class:`Calibration`: how a backend lets a space see the experts at work.
- :class:`TaskVectors`: a base and its experts, read lazily from safetensors.
- :func:`singular_value_similarity`, :func:`task_vector_cosine`: how alike two experts are.
- :func:`checkpoint_problems`: what keeps checkpoints from being merged, from their headers alone.
- :func:`weights_digest`: what a base's weights are, to record beside what was trained on them.

Names that need torch are imported on first use, so that importing this package stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qdmerge.spaces._base import Space
from qdmerge.spaces._compatibility import checkpoint_problems
from qdmerge.spaces._digest import weights_digest
from qdmerge.spaces._vector import VectorSpace

if TYPE_CHECKING:
    from qdmerge.spaces._calibration import Calibration
    from qdmerge.spaces._core import CoreSpace
    from qdmerge.spaces._expert import ExpertSpace
    from qdmerge.spaces._layer import LayerSpace
    from qdmerge.spaces._linear import LinearSpace
    from qdmerge.spaces._regmean import RegMeanSpace
    from qdmerge.spaces._similarity import singular_value_similarity, task_vector_cosine
    from qdmerge.spaces._spectral import SpectralCoordinates, SpectralSpace
    from qdmerge.spaces._task_vectors import TaskVectors
    from qdmerge.spaces._weights import WeightSpace

_NEEDS_TORCH = {
    "Calibration": "_calibration",
    "CoreSpace": "_core",
    "ExpertSpace": "_expert",
    "LayerSpace": "_layer",
    "LinearSpace": "_linear",
    "RegMeanSpace": "_regmean",
    "SpectralCoordinates": "_spectral",
    "SpectralSpace": "_spectral",
    "TaskVectors": "_task_vectors",
    "WeightSpace": "_weights",
    "singular_value_similarity": "_similarity",
    "task_vector_cosine": "_similarity",
}

__all__ = [
    "Calibration",
    "CoreSpace",
    "ExpertSpace",
    "LayerSpace",
    "LinearSpace",
    "RegMeanSpace",
    "Space",
    "SpectralCoordinates",
    "SpectralSpace",
    "TaskVectors",
    "VectorSpace",
    "WeightSpace",
    "checkpoint_problems",
    "singular_value_similarity",
    "task_vector_cosine",
    "weights_digest",
]


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
