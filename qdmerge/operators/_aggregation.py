"""Aggregation: the best elites of all archives become one model."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax


def softmax_aggregate(
    solutions: np.ndarray, qualities: np.ndarray, scale: float = 1.0
) -> np.ndarray:
    """Return ``theta_base + scale * sum_k beta_k tau_k`` with ``beta = softmax(f)``.

    This is arXiv 2410.14735, section 3.4, where ``scale`` is 1. Coordinates are linear in the task
    vectors and 0 for the base, so the same weights mix the solutions.

    Args:
        solutions: ``(K, dim)`` one elite per archive.
        qualities: ``(K,)`` the elites' scores on their archives' tasks.
        scale: Factor on the merged task vector.

    Returns:
        ``(dim,)`` solution, in the dtype of ``solutions``.
    """
    beta = scale * softmax(np.asarray(qualities, dtype=np.float64))
    return np.einsum("k,kd->d", beta, solutions).astype(solutions.dtype)
