"""Hypervolume and fronts, against definitions written out."""

from __future__ import annotations

import sys
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qdmerge.backend import Task
from qdmerge.compare._fronts import Box, hypervolume, median_front, pareto_front
from qdmerge.errors import ConfigError

steps = st.integers(0, 8).map(lambda step: step / 8)


def points(dims: int | None = None, most: int = 7) -> st.SearchStrategy[np.ndarray]:
    shapes = st.tuples(st.integers(1, most), st.just(dims) if dims else st.integers(1, 6))
    return shapes.flatmap(lambda shape: arrays(float, shape, elements=steps))


def unit(dims: int) -> Box:
    return Box(np.zeros(dims), np.ones(dims))


def dominated_by_another(one: np.ndarray, others: np.ndarray) -> bool:
    return any((other >= one).all() and (other > one).any() for other in others)


@settings(max_examples=60, deadline=None)
@given(points())
def test_hypervolume_by_inclusion_and_exclusion(cloud):
    expected = 0.0
    for size in range(1, len(cloud) + 1):
        for chosen in combinations(cloud, size):
            expected -= (-1) ** size * np.min(chosen, axis=0).prod()
    assert hypervolume(cloud, unit(cloud.shape[1])) == pytest.approx(expected)


@pytest.mark.parametrize("dims", [2, 3, 6])
def test_hypervolume_by_monte_carlo_in_a_box_of_any_size(dims):
    rng = np.random.default_rng(dims)
    box = Box(np.full(dims, -1.0), np.linspace(1, 3, dims))
    cloud = rng.uniform(box.low - 0.2, box.high, (30, dims))
    thrown = rng.uniform(box.low, box.high, (40_000, dims))
    below = (thrown[:, None] <= cloud).all(axis=2).any(axis=1).mean()
    assert hypervolume(cloud, box) == pytest.approx(below, abs=0.01)


@settings(max_examples=40, deadline=None)
@given(points(), st.data())
def test_a_dominated_point_changes_nothing(cloud, data):
    box = unit(cloud.shape[1])
    weaker = cloud[data.draw(st.integers(0, len(cloud) - 1))] * data.draw(steps)
    more = np.vstack([cloud, weaker])
    assert hypervolume(more, box) == pytest.approx(hypervolume(cloud, box))
    np.testing.assert_array_equal(more[pareto_front(more)], cloud[pareto_front(cloud)])


def test_what_lies_beyond_the_box_counts_as_on_its_border():
    assert hypervolume(np.array([[2.0, 0.5]]), unit(2)) == 0.5
    assert hypervolume(np.array([[-1.0, 0.5], [-1.0, -1.0]]), unit(2)) == 0
    assert hypervolume(np.array([[2.0, 2.0]]), unit(2)) == 1
    assert hypervolume(np.empty((0, 2)), unit(2)) == 0


@settings(max_examples=60, deadline=None)
@given(points())
def test_front_is_what_no_other_dominates(cloud):
    expected = []
    for at, one in enumerate(cloud):
        repeated = any((one == cloud[before]).all() for before in expected)
        if not repeated and not dominated_by_another(one, cloud):
            expected.append(at)
    assert pareto_front(cloud).tolist() == expected
    assert pareto_front(cloud[:0]).tolist() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(points(2, most=5), min_size=1, max_size=6), st.integers(0, 2))
def test_median_front_is_what_half_of_the_sets_reach(sets, empty):
    sets = [*sets, *[np.empty((0, 2))] * empty]
    front = median_front(sets)
    for goal in np.stack(np.meshgrid(*[np.arange(9) / 8] * 2), axis=-1).reshape(-1, 2):
        reached = sum(any((one >= goal).all() for one in cloud) for cloud in sets)
        assert any((one >= goal).all() for one in front) == (2 * reached >= len(sets))
    assert pareto_front(front).tolist() == list(range(len(front)))
    assert (np.diff(front[:, 0]) > 0).all()


def test_the_box_lies_between_the_ends_of_the_ranges_if_all_are_finite():
    tasks = [Task("sql"), Task("loss", range=(-2.0, 0.0))]
    box = Box.of(tasks)
    assert box is not None
    np.testing.assert_array_equal(box.low, [0, -2])
    np.testing.assert_array_equal(box.high, [1, 0])
    assert Box.of([*tasks, Task("free", range=(0, np.inf))]) is None


@pytest.mark.parametrize(
    "needs_it",
    [
        lambda: hypervolume(np.ones((1, 2)), unit(2)),
        lambda: pareto_front(np.ones((1, 2))),
        lambda: median_front([np.ones((1, 2))]),
    ],
)
def test_without_moocore_the_extra_is_named(monkeypatch, needs_it):
    monkeypatch.setitem(sys.modules, "moocore", None)
    with pytest.raises(ConfigError, match=r"pip install 'qdmerge\[compare\]'"):
        needs_it()
