"""Best-so-far curves and evaluations to reach a level."""

from __future__ import annotations

import numpy as np
import pytest

from qdmerge.compare._convergence import Curve, band, held_out_curve, median_count, validation_curve
from qdmerge.compare._rows import RunRow
from tests.compare.synthetic import make_run

TASKS = ["a", "b", "c"]


def curve(*steps: tuple[int, float]) -> Curve:
    return Curve(np.array([at for at, _ in steps]), np.array([value for _, value in steps]))


def test_validation_curve_is_the_running_maximum_and_skips_failures():
    run = make_run("paper", 3, 0.5, TASKS)
    found = validation_curve(run, "minimum")
    best = max(run.seeds.min(axis=1))
    assert found.at(np.array([0])) == best
    for number, scores in enumerate(run.evaluated, start=1):
        best = best if scores is None else max(best, scores.min())
        assert found.at(np.array([number])) == best


def test_weights_belong_to_the_weighted_mean():
    run = RunRow("a", 0, "zoo", evaluated=[np.array([0.2, 0.8])])
    assert validation_curve(run, "weights", [3, 1]).values == pytest.approx([0.35])


def test_before_the_first_model_there_is_no_value():
    run = RunRow("a", 0, "zoo", evaluated=[None, np.array([0.2, 0.8]), np.array([0.1, 0.5])])
    found = validation_curve(run, "mean")
    np.testing.assert_array_equal(found.at(np.arange(4)), [np.nan, np.nan, 0.5, 0.5])
    assert validation_curve(RunRow("a", 0, "zoo"), "mean").first(0) is None


def test_held_out_curve_follows_the_incumbents_and_may_fall():
    scores = [np.array([0.5, 0.5]), np.array([0.7, 0.9]), np.array([0.6, 0.6])]
    run = RunRow("a", 0, "zoo", incumbents=list(zip([0, 4, 9], scores, strict=True)))
    found = held_out_curve(run, "mean")
    np.testing.assert_allclose(
        found.at(np.array([0, 3, 4, 8, 9, 50])), [0.5, 0.5, 0.8, 0.8, 0.6, 0.6]
    )


def test_of_several_incumbents_after_as_many_evaluations_the_last_one_holds():
    scores = [np.array([value, value]) for value in (0.6, 0.5, 0.55, 0.62)]
    run = RunRow("a", 0, "zoo", incumbents=list(zip([0, 0, 7, 40], scores, strict=True)))
    found = held_out_curve(run, "mean")
    assert found.evaluations.tolist() == [0, 7, 40]
    assert found.at(np.array([0])) == 0.5
    assert found.first(0.58) == 40


def test_the_first_time_counts_and_never_is_none():
    one = curve((0, 0.2), (5, 0.7), (9, 0.6))
    assert [one.first(level) for level in (0.1, 0.6, 0.7, 0.8)] == [0, 5, 5, None]


def test_band_is_median_and_quartiles_where_all_runs_have_a_value():
    curves = [curve((0, 0.0), (4, 0.4)), curve((2, 0.2)), curve((0, 0.1), (6, 0.9)), curve()]
    found = band(curves, 10)
    np.testing.assert_array_equal(found.evaluations, [2, 4, 6, 10])
    np.testing.assert_allclose(found.median, [0.1, 0.2, 0.4, 0.4])
    # After 2, 4, 6 and 10 evaluations: 0, .2, .1; then .4, .2, .1; then .4, .2, .9.
    np.testing.assert_allclose(found.low, [0.05, 0.15, 0.3, 0.3])
    np.testing.assert_allclose(found.high, [0.15, 0.3, 0.65, 0.65])
    assert len(band([], 10).median) == 0


def test_a_long_band_is_thinned_but_keeps_both_ends():
    steps = [(at, at / 1000) for at in range(1, 901)]
    found = band([curve(*steps)], 1000)
    assert len(found.evaluations) < 100
    assert (found.evaluations[0], found.evaluations[-1]) == (1, 1000)
    np.testing.assert_allclose(found.median, np.minimum(found.evaluations, 900) / 1000)


@pytest.mark.parametrize(
    ("counts", "median"),
    [([], None), ([5], 5), ([5, None, 9], 9), ([5, None], None), ([None, None, 3], None)],
)
def test_never_is_more_than_any_number(counts, median):
    assert median_count(counts) == median
