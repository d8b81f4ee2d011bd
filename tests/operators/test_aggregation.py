"""Aggregation against the paper's formula, element by element."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdmerge.operators import softmax_aggregate


@given(
    qualities=st.lists(st.floats(-5, 5), min_size=1, max_size=5),
    scale=st.floats(0.1, 2),
    seed=st.integers(0, 99),
)
def test_aggregate_is_the_softmax_weighted_sum(
    qualities: list[float], scale: float, seed: int
) -> None:
    solutions = np.random.default_rng(seed).normal(size=(len(qualities), 3))
    total = sum(math.exp(q) for q in qualities)
    expected = [
        scale * sum(math.exp(q) / total * x[d] for q, x in zip(qualities, solutions, strict=True))
        for d in range(3)
    ]
    np.testing.assert_allclose(
        softmax_aggregate(solutions, np.array(qualities), scale), expected, atol=1e-12
    )


def test_dtype_is_kept_and_large_scores_do_not_overflow() -> None:
    solutions = np.array([[1, 2], [3, 4]], np.float32)
    merged = softmax_aggregate(solutions, np.array([1e4, 0.0]))
    assert merged.dtype == np.float32
    assert merged == pytest.approx([1, 2])
