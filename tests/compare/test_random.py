"""Random search: what it draws, and that nothing else matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qdmerge.compare import RandomEmitter
from qdmerge.errors import ConfigError
from qdmerge.parts import EMITTERS
from qdmerge.schedulers import learns


def test_gaussian_is_centered_at_the_average(told: Any) -> None:
    made = told(RandomEmitter, sigma=0.3, batch_size=20_000)
    x = made.ask()
    np.testing.assert_allclose(x.mean(axis=0), made.space.x0, atol=0.01)
    np.testing.assert_allclose(np.cov(x.T), 0.09 * np.eye(4), atol=0.005)


def test_uniform_fills_its_range(told: Any) -> None:
    x = told(RandomEmitter, distribution="uniform", low=-0.5, high=1.5, batch_size=20_000).ask()
    assert x.min() >= -0.5
    assert x.max() <= 1.5
    quarters = np.stack([np.histogram(c, 4, (-0.5, 1.5))[0] for c in x.T]) / 20_000
    np.testing.assert_allclose(quarters, 0.25, atol=0.02)


@pytest.mark.parametrize("distribution", ["gaussian", "uniform"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_and_dtype_of_the_space(told: Any, distribution: str, dtype: type) -> None:
    made = told(
        RandomEmitter,
        distribution=distribution,
        sigma=3,
        low=-9,
        high=9,
        batch_size=50,
        lower=-0.1,
        upper=1.1,
        dtype=dtype,
    )
    x = made.ask()
    assert x.dtype == dtype
    assert (x >= made.space.lower_bounds).all()
    assert (x <= made.space.upper_bounds).all()
    assert len(np.unique(x)) > 2


@pytest.mark.usefixtures("no_global_randomness")
def test_every_ask_draws_anew_and_the_seed_decides(told: Any) -> None:
    first, again, other = told(RandomEmitter), told(RandomEmitter), told(RandomEmitter, seed=2)
    asked = [first.ask() for _ in range(5)]
    assert len(np.unique(np.concatenate(asked), axis=0)) == 5
    np.testing.assert_array_equal(np.concatenate([again.ask() for _ in range(5)]), np.vstack(asked))
    assert (other.ask() != asked[0]).all()
    assert not learns(first.emitter)  # any number of batches may be out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"distribution": "normal"},
            "'distribution': Input should be 'gaussian' or 'uniform' .got 'normal'",
        ),
        ({"sigma": -1}, "'sigma': Input should .* equal to 0 .got -1"),
        ({"low": 2}, "got low=2.0, high=1.0"),
        ({"batch_size": 0}, "'batch_size': Input should .* equal to 1 .got 0"),
    ],
)
def test_wrong_options(told: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        told(RandomEmitter, **options)
    if "low" not in options:
        assert EMITTERS.problems("random", options)


def test_the_best_draw_is_better_than_the_experts(searched: Callable[..., Any]) -> None:
    search, x, scores = searched(RandomEmitter)
    assert x.shape == (150, 4)
    experts = np.stack([search.seed_scores[name] for name in search.tasks])
    assert scores.min(axis=1).max() > 3 * experts.min(axis=1).max()
    assert scores.mean(axis=1).max() > experts.mean(axis=1).max()
