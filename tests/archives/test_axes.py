"""How wide the axes of the archives are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdmerge.archives import Axis, AxisSizing, build_archives, check_axes, grid
from qdmerge.backend import Measure, Task
from qdmerge.errors import ConfigError

scores = st.lists(st.floats(-10, 10).map(lambda v: round(v, 3)), min_size=1, max_size=5)


@given(scores=st.lists(st.floats(0.01, 10), min_size=1, max_size=5))
def test_margins_of_the_paper(scores: list[float]) -> None:
    """From 0.85 x the weakest expert's score to 1.15 x the strongest expert's."""
    axis = AxisSizing().task_axis(Task("t"), scores)
    assert (axis.low, axis.high) == (
        pytest.approx(0.85 * min(scores)),
        pytest.approx(1.15 * max(scores)),
    )


@given(scores=scores, low=st.floats(0, 1), high=st.floats(1, 3))
def test_an_axis_rises_and_holds_every_expert(scores: list[float], low: float, high: float) -> None:
    axis = AxisSizing(low, high).task_axis(Task("t", range=(-math.inf, math.inf)), scores)
    assert axis.low < axis.high
    assert axis.low <= min(scores)
    assert max(scores) <= axis.high


def test_margins_widen_the_axis_of_negative_scores() -> None:
    axis = AxisSizing().task_axis(Task("loss", range=(-math.inf, 0)), [-2.0, -1.0])
    assert (axis.low, axis.high) == (pytest.approx(-2.3), pytest.approx(-0.85))
    mixed = AxisSizing().task_axis(Task("t", range=(-9, 9)), [-2.0, 1.0])
    assert (mixed.low, mixed.high) == (pytest.approx(-2.3), pytest.approx(1.15))


def test_without_any_score_the_metric_s_range_is_the_axis() -> None:
    assert AxisSizing().task_axis(Task("t", range=(0.0, 5.0)), [0.0, 0.0]) == Axis("t", 0.0, 5.0)


@pytest.mark.parametrize("bounds", [(-math.inf, math.inf), (0.0, math.inf), (-math.inf, 0.0)])
def test_without_any_range_either_the_axis_is_one_unit_wide(bounds: tuple[float, float]) -> None:
    assert AxisSizing().task_axis(Task("t", range=bounds), [0.0, 0.0]) == Axis("t", -0.5, 0.5)


def test_without_margins_equal_scores_give_the_metric_s_range() -> None:
    assert AxisSizing(1.0, 1.0).task_axis(Task("t"), [0.4, 0.4]) == Axis("t", 0.0, 1.0)


def test_an_explicit_range_wins() -> None:
    sizing = AxisSizing(ranges={"t": (0.2, 0.3), "m": (7.0, 8.0)})
    assert sizing.task_axis(Task("t"), [0.0, 0.9]) == Axis("t", 0.2, 0.3)
    assert sizing.measure_axis(Measure("m", (0.0, 1.0))) == Axis("m", 7.0, 8.0)
    assert sizing.measure_axis(Measure("n", (0.0, 1.0))) == Axis("n", 0.0, 1.0)


@pytest.mark.parametrize("bad", [(1.0, 0.0), (1.0, 1.0), (0.0, math.inf), (math.nan, 1.0)])
def test_ranges_must_rise(bad: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="AxisSizing: 'ranges.t"):
        AxisSizing(ranges={"t": bad})
    with pytest.raises(ConfigError, match="measure 'm' must be finite and rise"):
        Measure("m", bad)


@pytest.mark.parametrize("bad", [(1.0, 0.0), (1.0, 1.0), (math.nan, 1.0)])
def test_the_range_of_a_metric_must_rise(bad: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="task 't' must rise"):
        Task("t", range=bad)


@pytest.mark.parametrize("margins", [(1.1, 1.2), (0.5, 0.9), (math.nan, 1.0)])
def test_margins_must_not_shrink_the_axis(margins: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="AxisSizing: '(low|high)_margin'"):
        AxisSizing(*margins)


def test_a_range_for_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="'codng'; did you mean 'coding'"):
        build_archives(
            grid,
            [Task("coding"), Task("db")],
            [],
            np.ones((2, 2)),
            AxisSizing(ranges={"codng": (0, 1)}),
            solution_dim=2,
            solution_dtype=np.dtype(float),
            seeds=[0, 1],
        )


def test_an_archive_without_axes_is_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match=r"'only' is the only task.*add a task, or return measu"):
        check_axes([Task("only")], [])
    with pytest.raises(ConfigError, match="no tasks"):
        check_axes([], [Measure("m", (0, 1))])
    check_axes([Task("only")], [Measure("m", (0, 1))])
    check_axes([Task("one"), Task("two")], [])


@pytest.mark.parametrize(
    ("tasks", "measures"), [(["a", "a"], []), (["a", "b"], ["b"]), (["a"], ["m", "m"])]
)
def test_names_must_differ(tasks: list[str], measures: list[str]) -> None:
    with pytest.raises(ConfigError, match="must differ"):
        check_axes([Task(name) for name in tasks], [Measure(name, (0, 1)) for name in measures])
