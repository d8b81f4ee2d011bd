"""One number from the scores on K tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gmean

from qdmerge.criteria import CRITERIA, Criterion, fitting_criteria, geometric_mean, over_tasks
from qdmerge.errors import ConfigError

RANGES = dict.fromkeys("abc", (0.0, 1.0))
EXPECTED: dict[str, Any] = {
    "mean": np.mean,
    "geometric_mean": gmean,
    "minimum": min,
    "weights": lambda scores: (scores[0] + 3 * scores[2]) / 4,
}


@given(scores=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_one_model_and_many_get_the_same_number(scores: list[float]) -> None:
    weights = {"a": 1.0, "c": 3.0}
    assert set(CRITERIA) == set(EXPECTED)
    for name, expected in EXPECTED.items():
        value = Criterion(name, RANGES, weights)(dict(zip("abc", scores, strict=True)))
        assert value == pytest.approx(expected(scores))
        many = over_tasks(name, np.array([[scores], [scores]]), [1, 0, 3])
        assert many.shape == (2, 1)
        assert many == pytest.approx(value)


def test_a_geometric_mean_is_0_where_a_score_is_0_or_less() -> None:
    assert over_tasks("geometric_mean", np.array([[1, 0], [1, -1]])).tolist() == [0, 0]
    assert geometric_mean([1.0, 0.0]) == geometric_mean([1.0, -1.0]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mean", RANGES, {"tusk": 1.0}), "final.weights: unknown tasks tusk; tasks: a, b, c"),
        (("weights", RANGES, {"a": 0.0}), "at least one weight must be positive"),
        (("geometric_mean", {"a": (-1.0, 1.0)}), "scores of at least 0, but a can be negative"),
    ],
)
def test_a_criterion_that_does_not_fit_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Criterion(*arguments)


def test_an_unknown_criterion_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of mean, geometric_mean, minimum, weights"):
        over_tasks("median", np.ones(2))


def test_the_first_criterion_is_followed_by_all_others_that_fit() -> None:
    assert list(fitting_criteria("minimum", RANGES)) == ["minimum", "mean", "geometric_mean"]
    assert next(iter(fitting_criteria("weights", RANGES, {"b": 1.0}))) == "weights"
    assert list(fitting_criteria("mean", {"a": (-1.0, 1.0)})) == ["mean", "minimum"]
