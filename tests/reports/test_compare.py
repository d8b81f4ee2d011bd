"""Figures of a comparison: what is drawn is what the summary holds."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from qdmerge.backend import Task
from qdmerge.compare import comparison_chart, comparison_curves, comparison_fronts, draw_comparison
from qdmerge.compare._rows import RunRow
from qdmerge.compare._summary import summarize
from tests.compare.synthetic import SKILL, make_study, task_names
from tests.reports.test_draw import overlaps_and_clips

FAILED = RunRow("fine_tuning", 0, "zoo", status="failed", cause="no memory")


def summary_of(tasks: int, rows=None, **options):
    names = task_names(tasks)
    rows = [*make_study(names, seeds=3), FAILED] if rows is None else rows
    parts = [Task(name) for name in names]
    return summarize(rows, parts, "recommended", ["geometric_mean"], resamples=100, **options)


@pytest.fixture(scope="module")
def summary():
    return summary_of(3)


def test_chart_has_a_row_per_method_and_a_panel_per_measure(summary):
    figure = comparison_chart(summary, "geometric_mean")
    panels = figure.axes
    assert [panel.get_title(loc="left") for panel in panels] == [
        "mean",
        "geometric mean",
        "minimum",
    ]
    names = [text.get_text() for text in panels[0].get_yticklabels()]
    assert set(names) == {*SKILL, "fine_tuning"}
    assert names[-1] == "fine_tuning"
    assert [text.get_text() for text in panels[0].texts] == ["no run"]
    for panel, measure in zip(panels, summary["measures"], strict=True):
        drawn = {
            tuple(np.atleast_1d(line.get_xdata())): np.atleast_1d(line.get_ydata())[0]
            for line in panel.get_lines()
        }
        for row, name in enumerate(names[:-1]):
            told = summary["methods"][name]["picks"]["geometric_mean"][measure]
            assert drawn[told["value"],] == row
            assert drawn[tuple(told["ci95"])] == row


def test_curves_have_a_panel_per_method_with_median_and_quartiles(summary):
    figure = comparison_curves(summary, "zoo", "minimum")
    told = {
        one["method"]: one["held_out"] for one in summary["curves"] if one["measure"] == "minimum"
    }
    assert len(figure.axes) == len(told) == len(SKILL)
    for panel, (name, curve) in zip(figure.axes, told.items(), strict=True):
        assert panel.get_title(loc="left")[:5] == name[:5]
        *_, own, end = panel.get_lines()
        np.testing.assert_array_equal(own.get_xdata(), curve["evaluations"])
        np.testing.assert_array_equal(own.get_ydata(), curve["median"])
        assert end.get_ydata()[0] == curve["median"][-1]
        (drawn,) = panel.collections
        heights = drawn.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(min(curve["low"]))
        assert heights.max() == pytest.approx(max(curve["high"]))


def test_fronts_have_a_panel_per_pair_of_tasks(summary):
    figure = comparison_fronts(summary, "zoo")
    assert [(panel.get_xlabel(), panel.get_ylabel()) for panel in figure.axes] == list(
        combinations(task_names(3), 2)
    )
    for panel, front in zip(figure.axes, summary["fronts"], strict=True):
        for line, (_, points) in zip(panel.get_lines(), front["methods"].items(), strict=True):
            np.testing.assert_array_equal(line.get_xydata(), points)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(SKILL)


@pytest.mark.parametrize("tasks", [2, 3, 6])
def test_no_text_is_clipped_or_covers_another_with_a_dozen_methods(tasks):
    summary = summary_of(tasks)
    for figure in (
        comparison_chart(summary, "geometric_mean"),
        comparison_curves(summary, "zoo", "geometric_mean"),
        comparison_fronts(summary, "zoo"),
    ):
        assert overlaps_and_clips(figure) == ([], [])


def test_all_figures_are_written(summary, tmp_path):
    written = draw_comparison(summary, tmp_path / "figures")
    assert [path.name for path in written] == [
        "methods-geometric-mean.png",
        "curves.png",
        "fronts.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_each_test_bed_has_its_own_curves_and_fronts(tmp_path):
    rows = make_study(task_names(2), 2, {"recommended": 0.6, "paper": 0.5}, ("one", "two"))
    written = draw_comparison(summary_of(2, rows), tmp_path)
    assert [path.stem for path in written] == [
        "methods-geometric-mean",
        "curves-1",
        "fronts-1",
        "curves-2",
        "fronts-2",
    ]


def test_what_there_is_no_data_for_is_not_drawn(tmp_path):
    rows = [
        replace(row, points=None, incumbents=(), evaluated=())
        for row in make_study(task_names(1), 2, {"recommended": 0.6, "average": 0.5})
    ]
    written = draw_comparison(summary_of(1, rows), tmp_path)
    assert [path.name for path in written] == ["methods-geometric-mean.png"]
    with pytest.raises(ValueError, match="no curves of mean on 'zoo'"):
        comparison_curves(summary_of(1, rows), "zoo", "mean")
    with pytest.raises(ValueError, match="no fronts on 'zoo'"):
        comparison_fronts(summary_of(1, rows), "zoo")


def test_a_comparison_in_which_all_failed_has_no_figures(tmp_path):
    rows = [RunRow("recommended", 0, "zoo", status="failed", cause="no memory")]
    assert draw_comparison(summary_of(2, rows), tmp_path) == []
