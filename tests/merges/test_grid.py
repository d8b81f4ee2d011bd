"""What recipes try, without any space."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from qdmerge.errors import ConfigError
from qdmerge.merges import Axes, Recipe, grid, grid_size

RECIPES = get_args(Recipe)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_grids_are_small(recipe: Recipe) -> None:
    assert 1 <= grid_size(recipe, 3) <= 12
    rows = grid(recipe, 4)
    assert len(np.unique(rows, axis=0)) == len(rows) == grid_size(recipe, 4)
    extra = {"regmean": 1, "ties": 2, "dare": 1, "dare_ties": 1}.get(recipe, 0)
    assert rows.shape[1] == 4 + extra


def test_rows() -> None:
    assert grid("average", 4).tolist() == [[0.25] * 4]
    assert grid("experts", 2).tolist() == [[1, 0], [0, 1]]
    assert grid("task_arithmetic", 2, Axes(scales=[0.4, 0.6])).tolist() == [[0.4, 0.4], [0.6, 0.6]]
    assert grid("tilted", 3, Axes(tilts=[(0.8, 0.5)])).tolist() == [
        [0.8, 0.5, 0.5],
        [0.5, 0.8, 0.5],
        [0.5, 0.5, 0.8],
    ]
    assert grid("regmean", 2, Axes(scales=[1, 1.2], ridges=[0.1])).tolist() == [
        [0.5, 0.5, 0.1],
        [0.6, 0.6, 0.1],
    ]
    assert grid("ties", 2, Axes(scales=[1, 2], densities=[0.2])).tolist() == [
        [1, 1, 0.2, 1],
        [1, 1, 0.2, 2],
    ]
    assert grid("dare", 2, Axes(scales=[0.5], densities=[0.2, 1])).tolist() == [
        [0.5, 0.5, 0.2],
        [0.5, 0.5, 1],
    ]
    assert grid("slerp", 2, Axes(scales=[1], ts=[0.3])).tolist() == [[1, 0.3]]
    assert grid("slerp", 4, Axes(scales=[1], ts=[0.5])).tolist() == [[1, 1 / 2, 1 / 3, 1 / 4]]
    assert grid("slerp", 3, Axes(scales=[1], ts=[0, 1])).tolist() == [[1, 0, 0], [1, 1, 1]]
    # As merging with weights: each of two experts weighs 1, the one after them 3 = .75 / .25.
    assert grid("slerp", 3, Axes(scales=[1], ts=[0.75]))[0, 2] == pytest.approx(3 / (1 + 1 + 3))


@pytest.mark.parametrize(
    ("recipe", "n", "options", "message"),
    [
        ("tie", 3, {}, "unknown recipe 'tie'; did you mean 'ties'"),
        ("ties", 0, {}, "there are none"),
        ("slerp", 1, {}, "at least 2 experts; there is 1"),
        ("average", 3, {"scales": [1.0]}, "has no 'scales'"),
        ("slerp", 3, {"densities": [0.5]}, "has no 'densities'"),
        ("ties", 3, {"scales": []}, "'scales' must be finite numbers, at least one"),
        ("ties", 3, {"scales": [np.inf]}, "must be finite"),
        ("ties", 3, {"ridges": [0.1]}, "has no 'ridges'"),
        ("regmean", 3, {"ridges": [0.1, 0.0]}, r"ridges must be above 0; got \[0.1, 0.0\]"),
        ("dare", 3, {"densities": [0.5, 1.5]}, r"densities must lie in \[0, 1\]"),
        ("slerp", 3, {"ts": [1.5]}, r"ts must lie in \[0, 1\]"),
        ("ties", 3, {"ts": [0.5]}, "has no 'ts'"),
    ],
)
def test_what_makes_no_sense_is_refused(recipe: Any, n: int, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid_size(recipe, n, Axes(**options))
