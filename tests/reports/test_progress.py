"""Curves over evaluations, against the log."""

from __future__ import annotations

import numpy as np
import pytest

from qdmerge.reports import progress_curves
from qdmerge.runs import read_history
from tests.reports.conftest import EVALUATIONS


def test_one_line_per_task_follows_the_logged_statistics(run_of):
    events = run_of("three tasks").read_events()
    panels = progress_curves(read_history(events).stats).axes
    assert [panel.get_title(loc="left") for panel in panels] == [
        "QD score",
        "coverage",
        "best quality",
    ]
    told = [event["stats"] for event in events if event["event"] == "tell"]
    for panel, key in zip(panels, ("qd_score", "coverage", "best"), strict=True):
        for line, task in zip(panel.get_lines(), ("task0", "task1", "task2"), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), range(EVALUATIONS + 1))
            np.testing.assert_array_equal(line.get_ydata(), [stats[task][key] for stats in told])


def test_legend_names_the_tasks_once(run_of):
    figure = progress_curves(read_history(run_of("two tasks").read_events()).stats)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["task0", "task1"]


def test_a_statistic_that_an_archive_does_not_have_gets_no_panel():
    stats = [(n, {"t": {"elites": 1, "coverage": None, "qd_score": n, "best": 1}}) for n in (0, 1)]
    panels = progress_curves(stats).axes
    assert [panel.get_title(loc="left") for panel in panels] == ["QD score", "best quality"]


def test_no_statistics_are_refused():
    with pytest.raises(ValueError, match="no statistics"):
        progress_curves([])
