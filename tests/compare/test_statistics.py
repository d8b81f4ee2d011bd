"""Intervals and tests, against independent computations."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from qdmerge.compare._rows import Pick, RunRow
from qdmerge.compare._statistics import (
    LEVEL,
    estimate,
    holm,
    pair_differences,
    pairs_needed,
    rank_biserial,
    resampled_scores,
    sign_flip_test,
    smallest_p,
)
from qdmerge.criteria import over_tasks
from qdmerge.errors import RunError

# Steps of 1/64, so that sums in any order are exact and ties are ties.
numbers = st.integers(-64, 64).map(lambda step: step / 64)


def differences(least: int = 1, most: int = 9) -> st.SearchStrategy[np.ndarray]:
    return st.integers(least, most).flatmap(lambda n: arrays(float, n, elements=numbers))


@settings(max_examples=40, deadline=None)
@given(differences())
def test_sign_flip_p_value_by_trying_all_signs(told):
    flipped = [abs(np.mean(told * signs)) for signs in product((1, -1), repeat=len(told))]
    expected = np.mean(np.array(flipped) >= abs(np.mean(told)))
    assert sign_flip_test(told, 0) == pytest.approx(expected)


def test_sign_flip_p_value_does_not_hang_on_rounding():
    # The sum is 0, and no sum is nearer to 0; in floating point some are.
    assert sign_flip_test(np.array([0.4, -0.3, -0.1, -0.3, 0.3]), 0) == 1.0
    assert sign_flip_test(np.array([0.1, 0.1, 0.1]), 0) == 2 / 8


def test_differences_by_rounding_alone_are_none():
    scores = np.array([0.1, 0.2, 0.3])
    own = np.array([sum(scores) / 3, 0.7, 0.3, 1000.0])
    other = np.array([sum(scores[::-1]) / 3, 0.6, 0.4, 1000.0])
    assert own[0] != other[0]
    told = pair_differences(own, other)
    np.testing.assert_allclose(told, [0, 0.1, -0.1, 0], atol=1e-9)
    assert told[0] == 0
    assert rank_biserial(told) == 0
    assert sign_flip_test(pair_differences(own[:1].repeat(9), other[:1].repeat(9)), 0) == 1
    assert pair_differences(np.array([3e-20]), np.array([1e-20])) == pytest.approx(2e-20)
    assert pair_differences(np.zeros(2), np.zeros(2)).tolist() == [0, 0]
    assert pair_differences(np.array([3e-309]), np.array([0.0])).tolist() == [0]


@pytest.mark.parametrize("pairs", [1, 2, 3, 5, 8, 13, 40])
def test_the_smallest_p_value_is_that_of_winning_every_pair(pairs):
    won = np.linspace(0.5, 1, pairs) * 1000
    assert sign_flip_test(won, 0) == pytest.approx(smallest_p(pairs))


@pytest.mark.parametrize("methods", [1, 2, 8, 11, 20])
def test_pairs_needed_are_the_fewest_that_can_be_significant(methods):
    needed = pairs_needed(methods)
    assert holm([smallest_p(needed)] * methods)[0] <= LEVEL
    assert holm([smallest_p(needed - 1)] * methods)[0] > LEVEL


def test_many_pairs_agree_with_the_normal_approximation():
    told = np.random.default_rng(0).normal(0.3, 1, 60)
    z = told.sum() / np.sqrt((told**2).sum())
    assert sign_flip_test(told, 0) == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.01)
    assert sign_flip_test(told, 0) == sign_flip_test(told, 0)


def test_holm_by_hand():
    # Sorted .01, .02, .03, .5 times 4, 3, 2, 1 = .04, .06, .06, .5, never falling.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.25, 0.25, 0.25]) == pytest.approx([0.75] * 3)
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values):
    corrected = np.array(holm(p_values))
    raw = np.array(p_values)
    assert (corrected >= raw).all()
    assert (corrected <= np.minimum(len(raw) * raw, 1) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(raw, kind="stable")]) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(differences())
def test_rank_biserial_follows_from_the_wilcoxon_statistic(told):
    effect = rank_biserial(told)
    assert -1 <= effect <= 1
    assert rank_biserial(-told) == pytest.approx(-effect)
    if np.any(told):
        n = np.count_nonzero(told)
        gained = stats.wilcoxon(told[told != 0], alternative="greater", mode="approx").statistic
        assert effect == pytest.approx(4 * gained / (n * (n + 1)) - 1)


@settings(max_examples=40, deadline=None)
@given(differences(), st.integers(0, 3))
def test_interval_contains_the_estimate(values, seed):
    rng = np.random.default_rng(seed)
    replicates = values + rng.normal(0, 0.1, (50, len(values)))
    test_beds = rng.integers(0, 2, len(values)).tolist()
    found = estimate(values, replicates, test_beds, 20)
    assert found.ci95 is not None
    assert found.ci95[0] <= found.value <= found.ci95[1]


def test_seeds_alone_give_the_t_interval():
    values = np.array([0.4, 0.5, 0.45, 0.6])
    found = estimate(values, None, ["zoo"] * 4)
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    np.testing.assert_allclose(found.ci95, expected)
    assert found.covers == "seeds"


def test_blocks_are_fixed_so_what_differs_between_them_widens_nothing():
    values = np.array([0.2, 0.3, 0.7, 0.8])
    found = estimate(values, None, ["a", "a", "b", "b"])
    # Variance within test_beds .005, two degrees of freedom, four runs.
    half = stats.t.ppf(0.975, 2) * np.sqrt(0.005 / 4)
    np.testing.assert_allclose(found.ci95, (0.5 - half, 0.5 + half))


def test_what_an_interval_covers_is_said():
    many = np.random.default_rng(0).normal(0.5, 0.1, (100, 1))
    assert estimate(np.array([0.5]), None, ["zoo"]).ci95 is None
    assert estimate(np.array([0.5]), None, ["zoo"]).covers == "nothing"
    assert estimate(np.array([0.5]), many, ["zoo"], 30).covers == "items"
    both = estimate(np.array([0.4, 0.5]), np.hstack([many, many]), ["zoo"] * 2, 30)
    assert both.covers == "seeds and items"


def run_with_items(method: str, items: np.ndarray, test_bed: str = "zoo") -> RunRow:
    """``items`` is ``(K, n)``."""
    own = {f"t{k}": one for k, one in enumerate(items)}
    test = {task: float(one.mean()) for task, one in own.items()}
    return RunRow(method, 0, test_bed, picks={"mean": Pick("p", "s", test, test, test, own)})


def test_items_are_resampled_jointly_and_whatever_methods_stand_beside():
    items = (np.random.default_rng(0).random((2, 40)) < 0.5).astype(float)
    first, shifted = run_with_items("a", items), run_with_items("b", 1 - items)
    one, other = resampled_scores([first, shifted], "mean", ["t0", "t1"], 300, 7)
    assert one.shape == (300, 2)
    np.testing.assert_allclose(one + other, 1)
    (alone,) = resampled_scores([first], "mean", ["t0", "t1"], 300, 7)
    np.testing.assert_array_equal(one, alone)
    assert not np.allclose(alone, resampled_scores([first], "mean", ["t0", "t1"], 300, 8)[0])
    expected = items.std(axis=1) / np.sqrt(40)
    np.testing.assert_allclose(one.std(axis=0), expected, rtol=0.15)
    np.testing.assert_allclose(one.mean(axis=0), items.mean(axis=1), atol=0.02)


def test_test_beds_with_the_same_items_are_resampled_alike():
    items = (np.random.default_rng(0).random((2, 40)) < 0.5).astype(float)
    rows = [
        replace(run_with_items("a", items, test_bed), data=data)
        for test_bed, data in [
            ("one", "x"),
            ("two", "x"),
            ("three", "y"),
            ("four", ""),
            ("five", ""),
        ]
    ]
    found = resampled_scores(rows, "mean", ["t0", "t1"], 50, 0)
    same = [[np.array_equal(one, other) for other in found] for one in found]
    assert same == [[i == j or {i, j} == {0, 1} for j in range(5)] for i in range(5)]


def test_runs_of_a_block_that_were_tested_on_other_items_are_refused():
    rows = [run_with_items("a", np.zeros((1, 4))), run_with_items("b", np.zeros((1, 5)))]
    with pytest.raises(RunError, match=r"'zoo' have 4, 5 test items of 't0'"):
        resampled_scores(rows, "mean", ["t0"], 10, 0)
    rows[1] = run_with_items("b", np.zeros((1, 5)), test_bed="another zoo")
    assert all(found is not None for found in resampled_scores(rows, "mean", ["t0"], 10, 0))


@pytest.mark.parametrize(
    ("seeds", "items", "spread"), [(3, 60, 0.05), (5, 60, 0.02), (5, 300, 0.08)]
)
def test_intervals_cover_the_truth_about_as_often_as_they_say(seeds, items, spread):
    """Of 300 simulated studies; binary items, some easy and some hard for all runs."""
    rng = np.random.default_rng(1)
    base = np.array([0.6, 0.5, 0.4])
    covered = 0
    for _ in range(300):
        level = base + rng.normal(0, spread, (seeds, 3))
        hardness = rng.uniform(-0.15, 0.15, (3, items))
        right = rng.random((seeds, 3, items)) < np.clip(level[:, :, None] + hardness, 0, 1)
        scores = right.mean(axis=2)
        counts = rng.multinomial(items, np.full(items, 1 / items), size=(3, 200))
        again = np.moveaxis(counts @ right.transpose(1, 2, 0) / items, 0, -1)
        found = estimate(
            over_tasks("mean", scores),
            over_tasks("mean", again),
            ["zoo"] * seeds,
            items,
        )
        covered += found.ci95[0] <= base.mean() <= found.ci95[1]
    assert 0.91 <= covered / 300 <= 0.995
