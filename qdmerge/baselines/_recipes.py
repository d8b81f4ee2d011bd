"""Merging recipes that need no search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from qdmerge.spaces import WeightSpace


def plain_average(space: WeightSpace) -> np.ndarray:
    """The mean of the experts' weights (model soup, arXiv 2203.05482).

    Returns:
        ``(dim,)`` solution.
    """
    return space.merge([1 / len(space.experts)] * len(space.experts))


def task_arithmetic(space: WeightSpace, scale: float) -> np.ndarray:
    """``theta_base + scale * sum_k tau_k`` (arXiv 2212.04089).

    Args:
        space: Space of the models.
        scale: Factor on the sum of the task vectors.

    Returns:
        ``(dim,)`` solution.
    """
    return space.merge([scale] * len(space.experts))
