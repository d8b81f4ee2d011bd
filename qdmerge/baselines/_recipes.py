"""Merging recipes that need no search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Mergeable(Protocol):
    """A space that can express every linear merge of its experts.

    Attributes:
        experts: Names of the experts.
    """

    experts: tuple[str, ...]

    def merge(self, weights: Sequence[float]) -> np.ndarray:
        """The ``(dim,)`` solution of ``theta_base + sum_k weights[k] tau_k``."""
        ...


def plain_average(space: Mergeable) -> np.ndarray:
    """The mean of the experts' weights (model soup, arXiv 2203.05482).

    Returns:
        ``(dim,)`` solution.
    """
    return space.merge([1 / len(space.experts)] * len(space.experts))


def task_arithmetic(space: Mergeable, scale: float) -> np.ndarray:
    """``theta_base + scale * sum_k tau_k`` (arXiv 2212.04089).

    Args:
        space: Space of the models.
        scale: Factor on the sum of the task vectors.

    Returns:
        ``(dim,)`` solution.
    """
    return space.merge([scale] * len(space.experts))
