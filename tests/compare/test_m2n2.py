"""M2N2: competition for items, attraction, split points, and the population."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qdmerge.compare import M2N2Emitter
from qdmerge.compare._populations import attraction, merge_at_split, resource_shares
from qdmerge.errors import ConfigError
from qdmerge.parts import EMITTERS
from qdmerge.schedulers import learns

unit = st.floats(0, 1, width=16)
scores_of_models = arrays(
    np.float64, st.tuples(st.integers(2, 5), st.integers(1, 8)), elements=unit
)


def test_shares_by_hand() -> None:
    """Two models solve item 0, one of them item 1 too, a third one item 2; nobody item 3."""
    scores = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]], float)
    shares = resource_shares(scores, np.array([1, 1, 0.5, 1]))
    np.testing.assert_array_equal(shares, [[0.5, 1, 0, 0], [0.5, 0, 0, 0], [0, 0, 0.5, 0]])
    np.testing.assert_array_equal(shares.sum(axis=1), [1.5, 0.5, 0.5])
    np.testing.assert_array_equal(attraction(shares, 0), [0, 0, 0.5])
    np.testing.assert_array_equal(attraction(shares, 1), [1, 0, 0.5])


@given(scores_of_models)
def test_every_resource_that_anyone_can_use_is_used_up(scores: np.ndarray) -> None:
    capacity = np.linspace(0.5, 2, scores.shape[1])
    shares = resource_shares(scores, capacity)
    assert (shares >= 0).all()
    used = scores.any(axis=0)
    np.testing.assert_allclose(shares.sum(axis=0), np.where(used, capacity, 0), rtol=1e-9)


@given(scores_of_models, st.data())
def test_a_copy_in_the_population_lowers_fitness(scores: np.ndarray, data: Any) -> None:
    row = data.draw(st.integers(0, len(scores) - 1))
    capacity = np.ones(scores.shape[1])
    alone = resource_shares(scores, capacity).sum(axis=1)
    beside = resource_shares(np.vstack([scores, scores[row]]), capacity).sum(axis=1)
    assert beside[row] == beside[-1]
    assert (beside[:-1] <= alone + 1e-12).all()
    if scores[row].any():
        assert beside[row] < alone[row]


@given(scores_of_models, st.data())
def test_nobody_is_attracted_by_a_model_that_is_better_nowhere(
    scores: np.ndarray, data: Any
) -> None:
    factors = data.draw(arrays(np.float64, scores.shape[1], elements=unit))
    population = np.vstack([scores, scores[0] * factors])
    shares = resource_shares(population, np.ones(scores.shape[1]))
    assert attraction(shares, 0)[-1] == 0
    assert attraction(shares, 0)[0] == 0


@given(arrays(np.float64, (2, 6), elements=st.floats(-3, 3)), st.integers(0, 6), unit)
def test_a_child_lies_between_its_parents(parents: np.ndarray, split: int, ratio: float) -> None:
    child = merge_at_split(*parents, split, ratio)
    assert (child >= parents.min(axis=0) - 1e-9).all()
    assert (child <= parents.max(axis=0) + 1e-9).all()
    both = child + merge_at_split(*parents[::-1], split, ratio)
    np.testing.assert_allclose(both, parents.sum(axis=0), atol=1e-9)


def test_the_ratio_turns_round_at_the_split_point() -> None:
    a, b = np.zeros(5), np.ones(5)
    np.testing.assert_allclose(merge_at_split(a, b, 2, 0.9), [0.9, 0.9, 0.1, 0.1, 0.1])
    np.testing.assert_array_equal(merge_at_split(a, b, 3, 0), [0, 0, 0, 1, 1])


def items_of(x: np.ndarray) -> dict[str, np.ndarray]:
    """Items that need one coordinate each: three of task0, one each of the others."""
    easy = np.clip(x[[0, 0, 0, 1, 2]], 0, 1)
    return {"task1": easy[3:4], "task0": easy[:3], "task2": easy[4:]}


def step(made: Any, reverse: bool = False) -> np.ndarray:
    x = made.ask()
    items = [items_of(row) for row in x]
    scores = np.array([[row[f"task{k}"].mean() for k in range(3)] for row in items])
    if reverse:
        items = [dict(reversed(row.items())) if n % 2 else row for n, row in enumerate(items)]
    made.tell(x, scores, items=items)
    return x


def test_it_starts_from_the_average_and_the_experts(told: Any) -> None:
    made = told(M2N2Emitter)
    known = np.vstack([made.space.x0, np.eye(3, 4)])
    np.testing.assert_array_equal(made.ask(), known)
    np.testing.assert_array_equal(step(made), known)
    assert made.emitter.parents is None
    np.testing.assert_array_equal(made.emitter.population, known)
    assert step(made).shape == (1, 4)
    assert learns(made.emitter)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_children_lie_between_two_different_members(told: Any, dtype: type) -> None:
    made = told(M2N2Emitter, batch_size=6, dtype=dtype)
    step(made)
    for _ in range(5):
        members = made.emitter.population
        children = step(made)
        assert children.dtype == dtype
        parents = made.emitter.parents
        assert parents.shape == (6, 2, 4)
        for child, pair in zip(children, parents, strict=True):
            assert all((members.astype(dtype) == parent).all(axis=1).any() for parent in pair)
            assert (pair[0] != pair[1]).any()
            assert (child >= pair.min(axis=0) - 1e-6).all()
            assert (child <= pair.max(axis=0) + 1e-6).all()


def test_the_least_fit_leaves(told: Any) -> None:
    """Four models for two places: the copies share, the model that can do nothing goes first."""
    made = told(M2N2Emitter, population=3)
    x = made.ask()
    both, one, other, nothing = (
        {"a": np.array(a), "b": np.array(b)}
        for a, b in (([1.0, 1], [1.0]), ([1.0, 0], [0.0]), ([0.0, 0], [1.0]), ([0.0, 0], [0.0]))
    )
    made.tell(x, np.zeros((4, 3)), items=[nothing, one, both, other])
    np.testing.assert_array_equal(made.emitter.population, x[1:])
    made.tell(x[:1], np.zeros((1, 3)), items=[both])  # fitness .58, 1.33, ... : `one` has .17
    np.testing.assert_array_equal(made.emitter.population, x[[2, 3, 0]])


def test_specialists_attract_each_other(told: Any) -> None:
    """Two clones of one specialist and a rare one: every pair has the rare one in it."""
    made = told(M2N2Emitter, batch_size=50)
    x = made.ask()
    common, rare = ({"a": np.array([a]), "b": np.array([1 - a])} for a in (1.0, 0.0))
    made.tell(x, np.zeros((4, 3)), items=[common, common, common, rare])
    made.ask()
    assert (made.emitter.parents == x[3]).all(axis=2).any(axis=1).all()
    # Half of all resources are the rare one's, and so are half of the first places.
    first = (made.emitter.parents[:, 0] == x[3]).all(axis=1)
    assert 15 <= first.sum() <= 35


def test_no_task_counts_more_for_having_more_items(told: Any) -> None:
    made = told(M2N2Emitter, batch_size=400)
    x = made.ask()
    many, few = ({"a": np.full(30, score), "b": np.array([1 - score])} for score in (1.0, 0.0))
    made.tell(x[:2], np.zeros((2, 3)), items=[many, few])
    made.ask()
    first = (made.emitter.parents[:, 0] == x[0]).all(axis=1)
    assert 160 <= first.sum() <= 240


def test_a_model_that_failed_never_joins(told: Any) -> None:
    made = told(M2N2Emitter)
    known = step(made)
    x = made.ask()
    made.tell(x, np.ones((1, 3)), items=[None])
    np.testing.assert_array_equal(made.emitter.population, known)
    assert (made.ask() != x).any()


def test_without_items_the_scores_are_the_resources(told: Any) -> None:
    made, with_items = told(M2N2Emitter), told(M2N2Emitter)
    for _ in range(8):
        x = made.ask()
        np.testing.assert_array_equal(with_items.ask(), x)
        scores = made.scores(x) - 0.3  # what is negative counts as 0
        items = [{f"task{k}": row[[k]] for k in range(3)} for row in scores]
        made.tell(x, scores, items=[None] * len(x))
        with_items.tell(x, np.zeros((len(x), 3)), items=items)


@pytest.mark.usefixtures("no_global_randomness")
def test_the_same_results_give_the_same_children(told: Any) -> None:
    """Whatever the order of the tasks among a solution's items."""
    options = {"sigma": 0.01, "population": 6, "batch_size": 2}
    made, again, other = (told(M2N2Emitter, seed=seed, **options) for seed in (1, 1, 2))
    for turn in range(30):
        x = step(made)
        np.testing.assert_array_equal(step(again, reverse=True), x)
        assert (step(other) == x).all() == (turn == 0)
    assert len(made.emitter.population) == 6


def test_mutation_and_bounds(told: Any) -> None:
    made = told(M2N2Emitter, sigma=0.5, batch_size=30, lower=-0.1, upper=1.1)
    step(made)
    x = step(made)
    assert (x >= -0.1).all()
    assert (x <= 1.1).all()
    assert (x[:, 3] != 0).any()  # none of the experts has the fourth coordinate


def test_a_single_model_is_merged_with_itself(told: Any) -> None:
    made = told(M2N2Emitter)
    x = made.ask()[:1]
    made.tell(x, np.zeros((1, 3)))
    np.testing.assert_allclose(made.ask(), x)


def test_it_is_told_the_items_and_finds_better_merges(searched: Callable[..., Any]) -> None:
    search, x, scores = searched(M2N2Emitter)
    emitter = search.scheduler.emitters["task0"][0]
    assert emitter._resources.shape == (20, 60)  # twenty items of each task
    assert x.shape == (150, 4)
    experts = np.stack([search.seed_scores[name] for name in search.tasks])
    assert scores.min(axis=1).max() > 3 * experts.min(axis=1).max()
    assert scores.mean(axis=1).max() > scores[:4].mean(axis=1).max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 1}, "'population': Input should .* equal to 2 .got 1"),
        ({"sigma": -1}, "'sigma': Input should .* equal to 0 .got -1"),
        ({"batch_size": 0}, "'batch_size': Input should .* equal to 1 .got 0"),
    ],
)
def test_wrong_options(told: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        told(M2N2Emitter, **options)
    assert EMITTERS.problems("m2n2", options)
