"""The strip of filling archives, against the log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba

from qdmerge.reports import Moment, archive_filling, archive_maps, filling_moments
from qdmerge.reports._style import EMPTY_COLOR
from qdmerge.runs import History, read_history
from qdmerge.runs._figures import _moments
from tests.reports.conftest import BINS, EVALUATIONS
from tests.reports.test_draw import overlaps_and_clips
from tests.reports.test_heatmap import best_per_cell, drawn_grid, grid_map

QUARTERS = [0, EVALUATIONS // 4, EVALUATIONS // 2, EVALUATIONS * 3 // 4, EVALUATIONS]


def moments_of(folder) -> list[Moment]:
    return _moments(read_history(folder.read_events()), folder.read_config())


def strips(figure, columns: int = 5):
    """The panels, a row per archive."""
    assert len(figure.axes) % columns == 0
    return [figure.axes[at : at + columns] for at in range(0, len(figure.axes), columns)]


@given(st.lists(st.integers(1, 3), max_size=60), st.integers(0, 3))
def test_moments_are_the_first_ones_after_each_quarter(steps, waiting):
    """``waiting`` batches at the end whose evaluations had ended before others were told."""
    done = np.cumsum([0, *steps, *[0] * waiting]).tolist()
    told = filling_moments([(evaluations, {}) for evaluations in done])
    assert told == sorted(set(told))
    assert told[0] == 1
    assert told[-1] == len(done)
    reached = [done[number - 1] for number in told[:-1]]
    for quarter in range(4):
        first = next(value for value in done if 4 * value >= quarter * done[-1])
        assert first in [*reached, done[-1]]
    assert len(told) <= 5


def test_nothing_was_told():
    assert filling_moments([]) == []


@pytest.mark.parametrize("name", ["three tasks", "dns", "proximity", "sliding"])
def test_archives_at_a_moment_are_those_of_a_run_that_ended_there(run_of, unfinished, name):
    """The log cut after so many batches tells the same archives."""
    folder = run_of(name)
    history, config = read_history(folder.read_events()), folder.read_config()
    moments = [1, 4, EVALUATIONS + 1]

    def contents(archives):
        return {
            (task, key): values.tolist()
            for task, archive in archives.items()
            for key, values in archive.data().items()
        }

    grown = [contents(archives) for archives in history.growth(config, moments)]
    cut = [read_history(unfinished(name, told).read_events()).archives(config) for told in moments]
    assert grown == [contents(archives) for archives in cut]
    assert contents(history.archives(config, upto=4)) == grown[1]
    assert contents(history.archives(config)) == grown[2]
    assert history.archives(config, upto=0) == {}


def test_a_strip_shows_the_real_cells_at_every_quarter(run_of, unfinished):
    folder = run_of("three tasks")
    moments = moments_of(folder)
    assert [moment.evaluations for moment in moments] == QUARTERS
    rows = strips(archive_filling(moments))
    assert len(rows) == 3
    for column, evaluations in enumerate(QUARTERS):
        cut = unfinished("three tasks", evaluations + 1)
        for task, panels in enumerate(rows):
            x, y = {0: (1, 2), 1: (0, 2), 2: (0, 1)}[task]
            best, low, high = best_per_cell(cut, task, (x, y))
            np.testing.assert_allclose(drawn_grid(panels[column]), best)
            np.testing.assert_allclose(panels[column].get_xlim(), (low[x], high[x]))
            np.testing.assert_allclose(panels[column].get_ylim(), (low[y], high[y]))


def test_four_tasks_show_the_pairs_of_the_overview(run_of):
    figure = archive_filling(moments_of(run_of("four tasks")))
    pairs = [(0, (1, 2)), (1, (2, 3)), (2, (0, 3)), (3, (0, 1))]
    for (task, axes), panels in zip(pairs, strips(figure), strict=True):
        best, *_ = best_per_cell(run_of("four tasks"), task, axes)
        np.testing.assert_allclose(drawn_grid(panels[-1]), best)
        assert panels[0].get_ylabel() == f"task{axes[1]} (bump)"
    for strip, (task, axes) in zip(figure.subfigs, pairs, strict=True):
        assert strip.get_suptitle() == f"quality: task{task} (bump), best over the hidden axes"
        assert strip.get_supxlabel() == f"task{axes[0]} (bump)"


def test_a_row_has_one_scale_of_colors_and_the_texts_of_the_log(run_of):
    folder = run_of("three tasks")
    figure = archive_filling(moments_of(folder))
    stats = read_history(folder.read_events()).stats
    for task, panels in enumerate(strips(figure)):
        shown = np.concatenate([drawn_grid(panel).ravel() for panel in panels])
        (bar,) = panels[-1].child_axes
        for panel in panels:
            limits = panel.collections[0].get_clim()
            assert limits == (np.nanmin(shown), np.nanmax(shown))
            np.testing.assert_allclose(bar.get_ylim(), limits)
        for panel, evaluations in zip(panels, QUARTERS, strict=True):
            row = stats[evaluations][1][f"task{task}"]
            texts = [panel.get_title(loc="left"), *(text.get_text() for text in panel.texts)]
            held = texts[-1].splitlines()
            assert held[0] == f"{row['elites']} elites"
            assert held[1].startswith("QD score ")
            assert float(held[1].split()[-1]) == pytest.approx(row["qd_score"], abs=0.06)
            if task == 0:
                assert texts[0] == (f"{evaluations} evaluations" if evaluations else "the seeds")


def test_bars_of_one_axis_share_their_heights(run_of):
    moments = moments_of(run_of("two tasks"))
    for task, panels in enumerate(strips(archive_filling(moments))):
        assert len({(panel.get_xlim(), panel.get_ylim()) for panel in panels}) == 1
        for panel, moment in zip(panels, moments, strict=True):
            heights = [bar.get_height() for bar in panel.patches]
            assert heights == moment.maps[task].objective.tolist()
            assert max(heights) <= panel.get_ylim()[1]
        colors = {
            bar.get_height(): bar.get_facecolor() for panel in panels for bar in panel.patches
        }
        for panel in panels:
            assert all(bar.get_facecolor() == colors[bar.get_height()] for bar in panel.patches)


def test_voronoi_cells_fill(run_of):
    moments = moments_of(run_of("cvt"))
    for task, panels in enumerate(strips(archive_filling(moments))):
        for panel, moment in zip(panels, moments, strict=True):
            (cells,) = (c for c in panel.collections if isinstance(c, PolyCollection))
            empty = np.isclose(cells.get_facecolors(), to_rgba(EMPTY_COLOR), atol=1e-3).all(axis=1)
            assert (~empty).sum() == len(moment.maps[task].objective)


def test_points_of_an_archive_without_cells_share_their_axes(run_of):
    moments = moments_of(run_of("dns"))
    for task, panels in enumerate(strips(archive_filling(moments))):
        assert len({(panel.get_xlim(), panel.get_ylim()) for panel in panels}) == 1
        for panel, moment in zip(panels, moments, strict=True):
            places = panel.collections[0].get_offsets()
            assert len(places) == len(moment.maps[task].objective)
            assert (places[:, 0] >= panel.get_xlim()[0]).all()
            assert (places[:, 1] <= panel.get_ylim()[1]).all()


@pytest.mark.parametrize("name", ["two tasks", "three tasks", "four tasks", "own measures", "cvt"])
def test_no_text_is_clipped_or_covers_another(run_of, name):
    assert overlaps_and_clips(archive_filling(moments_of(run_of(name)))) == ([], [])


def crowd(tasks: int, moments: int = 5) -> list[Moment]:
    """Moments of archives with long names and large numbers."""
    long = "a task with quite a long name, number "
    maps = [grid_map(2, bins=15, name=f"{long}{n}-") for n in range(tasks)]
    stats = {
        part.task.name: {"elites": 1234, "coverage": None, "qd_score": 1234.5, "best": 1.0}
        for part in maps
    }
    return [Moment(400 * n, maps, stats) for n in range(moments)]


def test_long_names_and_large_numbers_fit():
    assert overlaps_and_clips(archive_filling(crowd(3))) == ([], [])


def test_more_than_four_archives_are_named_rather_than_drawn():
    figure = archive_filling(crowd(6))
    assert len(figure.subfigs) == 4
    (note,) = figure.texts
    assert note.get_text().startswith("Not shown: the archives of a task with")
    assert overlaps_and_clips(figure) == ([], [])
    assert not archive_filling(crowd(4)).texts


@pytest.mark.parametrize("name", ["two tasks", "three tasks", "cvt", "dns"])
def test_an_archive_that_was_empty_at_first_has_an_empty_panel(run_of, name):
    first, *_, last = moments_of(run_of(name))
    (gap, drawn), (other, _), *_ = strips(
        archive_filling([replace(first, maps=first.maps[1:]), last]), 2
    )
    assert (gap.get_xlim(), gap.get_ylim()) == (drawn.get_xlim(), drawn.get_ylim())
    assert gap.get_box_aspect() == drawn.get_box_aspect()

    def elites(panel):
        if name == "two tasks":
            return len(panel.patches)
        (shown,) = panel.collections
        if name == "dns":
            return len(shown.get_offsets())
        if name == "cvt":
            return len(np.unique(shown.get_facecolors(), axis=0)) - 1
        return int((~np.isnan(drawn_grid(panel))).sum())

    assert elites(gap) == 0
    assert elites(other) > 0
    assert elites(drawn) > 0


def test_one_elite_and_one_evaluation_are_singular():
    (moment,) = crowd(1, 1)
    stats = {task: {**row, "elites": 1, "qd_score": None} for task, row in moment.stats.items()}
    (panel,) = archive_filling([replace(moment, evaluations=1, stats=stats)]).axes
    assert panel.get_title(loc="left") == "1 evaluation"
    assert [text.get_text() for text in panel.texts] == ["1 elite"]


@pytest.mark.parametrize("moments", [[], [Moment(0, [], {})]])
def test_no_archives_are_refused(moments):
    with pytest.raises(ValueError, match="no archives"):
        archive_filling(moments)


def test_a_history_without_evaluations_has_no_moments(run_of):
    assert _moments(History(), run_of("two tasks").read_config()) == []
    assert archive_maps({}, ()) == []
    assert BINS
