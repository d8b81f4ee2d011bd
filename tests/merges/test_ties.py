"""TIES on single tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qdmerge.merges import ties, trim

seeds = st.integers(0, 2**16)
densities = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 0.9, 1.0])


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def by_definition(deltas: np.ndarray, weights: np.ndarray, density: float) -> np.ndarray:
    """TIES element by element, in float64."""
    deltas = deltas.astype(np.float64)
    n = deltas.shape[1]
    for row in deltas:
        order = np.argsort(-abs(row))
        row[order[max(1, int(density * n)) if density > 0 else 0 :]] = 0
    merged = np.zeros(n)
    for i in range(n):
        terms = [(w * d[i], w) for d, w in zip(deltas, weights, strict=True)]
        sign = 1 if sum(term for term, _ in terms) >= 0 else -1
        agreeing = [(term, w) for term, w in terms if term * sign > 0]
        if agreeing:
            merged[i] = sum(term for term, _ in agreeing) / sum(w for _, w in agreeing)
    return merged


@given(seed=seeds, k=st.integers(1, 4), n=st.integers(1, 30), density=densities)
def test_ties_is_its_definition(seed: int, k: int, n: int, density: float) -> None:
    deltas = normal(seed, k, n)
    weights = np.random.default_rng(seed).uniform(0.1, 1, k)
    expected = by_definition(deltas.numpy(), weights, density)
    np.testing.assert_allclose(ties(deltas, weights.tolist(), density), expected, atol=1e-6)


@given(seed=seeds, k=st.integers(1, 4))
def test_with_nothing_to_trim_and_no_conflict_ties_is_the_weighted_mean(seed: int, k: int) -> None:
    sign = normal(seed, 5, 3).sign()
    deltas = normal(seed + 1, k, 5, 3).abs() * sign
    weights = np.random.default_rng(seed).uniform(0.1, 1, k)
    expected = np.average(deltas.double(), axis=0, weights=weights)
    np.testing.assert_allclose(ties(deltas, weights.tolist(), 1.0), expected, rtol=1e-5, atol=1e-6)


@given(seed=seeds, density=densities, factor=st.sampled_from([0.25, 2.0, 16.0]))
def test_ties_scales_with_the_task_vectors_and_not_with_the_weights(
    seed: int, density: float, factor: float
) -> None:
    deltas, weights = normal(seed, 3, 20), [0.5, 0.3, 0.7]
    merged = ties(deltas, weights, density)
    torch.testing.assert_close(ties(factor * deltas, weights, density), factor * merged)
    torch.testing.assert_close(ties(deltas, [factor * w for w in weights], density), merged)


def test_the_minority_has_no_part() -> None:
    deltas = torch.tensor([[3.0, 1.0, 0.0], [1.0, -2.0, 0.0], [-2.0, -4.0, 0.0]])
    assert ties(deltas, [1, 1, 1], 1.0).tolist() == [2.0, -3.0, 0.0]
    assert ties(deltas, [0, 0, 1], 1.0).tolist() == [-2.0, -4.0, 0.0]
    assert ties(deltas, [0, 0, 0], 1.0).tolist() == [0.0, 0.0, 0.0]


@given(seed=seeds, density=st.floats(0.01, 1), shape=st.sampled_from([(), (7,), (4, 5), (2, 3, 2)]))
def test_trimming_keeps_the_largest(seed: int, density: float, shape: tuple[int, ...]) -> None:
    delta = normal(seed, *shape)
    left = trim(delta, density)
    kept = left != 0
    assert kept.sum() == max(1, int(density * delta.numel()))
    assert torch.equal(left[kept], delta[kept])
    assert (~kept).sum() == 0 or delta[~kept].abs().max() <= delta[kept].abs().min()


def test_trimming_at_the_ends() -> None:
    delta = normal(0, 6)
    assert torch.equal(trim(delta, 1.0), delta)
    assert not trim(delta, 0.0).any()
    assert trim(torch.zeros(0), 0.5).shape == (0,)
    assert trim(torch.tensor([1.0, -1.0, 1.0, 0.5]), 0.25).tolist() == [1.0, -1.0, 1.0, 0.0]


def test_as_many_weights_as_task_vectors() -> None:
    with pytest.raises(ValueError, match="zip"):
        ties(normal(0, 3, 4), [1.0, 1.0], 1.0)
