"""Crossover, against merges of the parents written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdmerge.errors import ConfigError
from qdmerge.operators import LinearCrossover, NoCrossover


def parents(n: int = 3, dim: int = 5, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, 2, dim)).astype(dtype)


@given(seed=st.integers(0, 2**32 - 1), sigma=st.floats(0, 0.2))
def test_child_is_the_merge_of_its_parents(seed: int, sigma: float) -> None:
    """``w1/(w1+w2) p1 + w2/(w1+w2) p2``, w from N(1, sigma^2), per child."""
    given_parents = parents()
    children = LinearCrossover(sigma)(given_parents, np.random.default_rng(seed))
    draws = np.random.default_rng(seed).standard_normal((3, 2))
    for child, (p1, p2), (e1, e2) in zip(children, given_parents, draws, strict=True):
        w1, w2 = 1 + sigma * e1, 1 + sigma * e2
        np.testing.assert_allclose(child, w1 / (w1 + w2) * p1 + w2 / (w1 + w2) * p2, atol=1e-9)


@given(seed=st.integers(0, 999))
def test_weights_sum_to_one(seed: int) -> None:
    """So merging a model with itself gives that model, whatever was drawn."""
    same = np.repeat(parents()[:, :1], 2, axis=1)
    children = LinearCrossover(0.3)(same, np.random.default_rng(seed))
    np.testing.assert_allclose(children, same[:, 0], atol=1e-9)


def test_without_noise_the_child_is_the_mean() -> None:
    given_parents = parents()
    children = LinearCrossover(0)(given_parents, np.random.default_rng(0))
    np.testing.assert_array_equal(children, 0.5 * given_parents[:, 0] + 0.5 * given_parents[:, 1])


def test_spread_of_the_weights() -> None:
    """To first order, w1/(w1+w2) has mean 1/2 and standard deviation sigma / sqrt(8)."""
    unit = np.broadcast_to(np.array([[[1.0], [0.0]]]), (20000, 2, 1))
    weights = LinearCrossover(0.03)(unit, np.random.default_rng(0))
    assert weights.mean() == pytest.approx(0.5, abs=1e-3)
    assert weights.std() == pytest.approx(0.03 / np.sqrt(8), rel=0.03)


def test_every_child_has_weights_of_its_own() -> None:
    same_parents = np.repeat(parents(1), 4, axis=0)
    children = LinearCrossover()(same_parents, np.random.default_rng(0))
    assert len(np.unique(children[:, 0])) == 4


@pytest.mark.parametrize("crossover", [LinearCrossover(), NoCrossover()])
@pytest.mark.usefixtures("no_global_randomness")
def test_dtype_is_kept_parents_untouched_and_the_generator_decides(
    crossover: LinearCrossover | NoCrossover,
) -> None:
    given_parents = parents(dtype=np.float32)[:, : crossover.parents]
    given_parents.setflags(write=False)
    first, again = (crossover(given_parents, np.random.default_rng(3)) for _ in range(2))
    assert first.dtype == np.float32
    assert first.shape == (3, 5)
    np.testing.assert_array_equal(first, again)


def test_no_crossover_passes_one_parent_on() -> None:
    given_parents = parents()[:, :1]
    children = NoCrossover()(given_parents, np.random.default_rng(0))
    np.testing.assert_array_equal(children, given_parents[:, 0])
    assert not np.shares_memory(children, given_parents)
    assert NoCrossover.parents == 1
    assert LinearCrossover.parents == 2


@pytest.mark.parametrize("sigma", [-0.1, np.nan])
def test_sigma_must_not_be_negative(sigma: float) -> None:
    with pytest.raises(ConfigError, match="LinearCrossover: 'sigma': Input should be greater"):
        LinearCrossover(sigma)


def test_the_total_is_drawn_between_its_ends() -> None:
    unit = np.broadcast_to(np.eye(2), (2000, 2, 2)).copy()
    totals = LinearCrossover(0.03, total=(0.9, 1.4))(unit, np.random.default_rng(0)).sum(axis=1)
    assert 0.9 <= totals.min() < 0.91
    assert 1.39 < totals.max() <= 1.4
    # At the paper's total no further number is drawn: its children stay what they were.
    first, second = (
        LinearCrossover(0.03, total=total)(unit, np.random.default_rng(0))
        for total in ((1.0, 1.0), (1.0, 1.0 + 1e-12))
    )
    assert np.allclose(first, second, atol=1e-9)
    with pytest.raises(ConfigError, match="must not fall"):
        LinearCrossover(total=(1.2, 1.0))
