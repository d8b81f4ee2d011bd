"""Archives as the figures show them, against what the logs say."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.path import Path as Outline

from qdmerge.backend import Measure, Task
from qdmerge.reports import ArchiveMap, Mark, archive_heatmap, archive_maps
from qdmerge.reports._maps import bounded_cells
from qdmerge.runs import read_history
from qdmerge.runs._figures import run_marks
from tests.reports.conftest import BINS

VIRIDIS = matplotlib.colormaps["viridis"]


def read(folder):
    """Maps and marks of a run."""
    history = read_history(folder.read_events())
    archives = history.archives(folder.read_config())
    results = folder.read_results()
    return archive_maps(archives, history.tasks, history.measures), run_marks(history, results)


def logged_scores(folder):
    """Seed name (or number) to scores of everything that entered the archives."""
    names, found = {}, {}
    for event in folder.read_events():
        if event["event"] == "ask" and event["names"]:
            names = {(event["batch"], i): name for i, name in enumerate(event["names"])}
        if event["event"] == "scores":
            key = event["batch"], event["index"]
            found[names.get(key, key)] = np.array(event["scores"])
    return found


def best_per_cell(folder, task, axes):
    """Best quality per grid cell, from the log alone and by the spec's ranges."""
    scores = logged_scores(folder)
    experts = np.array([values for name, values in scores.items() if str(name).startswith("task")])
    scores.pop("base")
    low, high = 0.85 * experts.min(axis=0), 1.15 * experts.max(axis=0)
    best = np.full((BINS, BINS), np.nan)
    for values in scores.values():
        place = np.floor((values - low) / (high - low) * BINS + 1e-6).astype(int)
        cell = tuple(np.clip(place, 0, BINS - 1)[list(axes)])
        best[cell] = np.nanmax([best[cell], values[task]])
    return best, low, high


def drawn_grid(panel):
    mesh = panel.collections[0]
    return np.ma.filled(mesh.get_array().astype(float), np.nan).reshape(BINS, BINS).T


def marked(panel):
    return [(line.get_label(), *np.ravel(line.get_data())) for line in panel.get_lines()]


def test_three_tasks_show_the_real_cells_with_axes_named_by_the_other_tasks(run_of):
    folder = run_of("three tasks")
    panels = archive_heatmap(*read(folder)).axes
    assert len(panels) == 3
    for task, panel in enumerate(panels):
        x, y = (other for other in range(3) if other != task)
        best, low, high = best_per_cell(folder, task, (x, y))
        np.testing.assert_allclose(drawn_grid(panel), best)
        assert panel.get_xlabel() == f"task{x} (bump)"
        assert panel.get_ylabel() == f"task{y} (bump)"
        assert panel.child_axes[0].get_title(loc="left") == f"quality: task{task} (bump)"
        np.testing.assert_allclose(panel.get_xlim(), (low[x], high[x]))
        np.testing.assert_allclose(panel.get_ylim(), (low[y], high[y]))


def test_color_bar_and_cells_share_one_scale_per_archive(run_of):
    for panel in archive_heatmap(*read(run_of("three tasks"))).axes:
        limits = panel.collections[0].get_clim()
        assert limits == (np.nanmin(drawn_grid(panel)), np.nanmax(drawn_grid(panel)))
        np.testing.assert_allclose(panel.child_axes[0].get_xlim(), limits)


def test_experts_and_chosen_model_are_marked_hollow_at_their_validation_scores(run_of):
    folder = run_of("three tasks")
    figure = archive_heatmap(*read(folder))
    scores, results = logged_scores(folder), folder.read_results()
    chosen = next(c for c in results["candidates"] if c["name"] == results["chosen"])
    for task, panel in enumerate(figure.axes):
        x, y = (other for other in range(3) if other != task)
        expected = [(f"task{k} expert", *scores[f"task{k}"][[x, y]]) for k in range(3)]
        label = next(m[0] for m in marked(panel) if m[0].startswith("chosen: "))
        assert results["chosen"] in label
        expected.append((label, chosen["validation"][f"task{x}"], chosen["validation"][f"task{y}"]))
        assert marked(panel) == expected
        assert all(line.get_markerfacecolor() == "none" for line in panel.get_lines())
    assert len(figure.legends) == 1
    assert not any(panel.get_legend() for panel in figure.axes)


def test_two_tasks_become_bars(run_of):
    folder = run_of("two tasks")
    panels = archive_heatmap(*read(folder)).axes
    assert len(panels) == 2
    for task, panel in enumerate(panels):
        best, low, high = best_per_cell(folder, task, (1 - task, 1 - task))
        heights = np.diagonal(best)
        bars = {bar.get_x(): bar.get_height() for bar in panel.patches}
        edges = np.linspace(low[1 - task], high[1 - task], BINS + 1)[:-1]
        np.testing.assert_allclose(sorted(bars), edges[~np.isnan(heights)])
        np.testing.assert_allclose([bars[x] for x in sorted(bars)], heights[~np.isnan(heights)])
        assert panel.get_ylabel() == f"task{task} (bump)"


def test_four_tasks_show_the_best_over_the_hidden_axis_for_each_pair(run_of):
    folder = run_of("four tasks")
    figure = archive_heatmap(*read(folder))
    panels = [panel for panel in figure.axes if panel.get_xlabel()]
    assert len(panels) == 4 * 3
    shown = set()
    for number, panel in enumerate(panels):
        x, y = (int(label[4]) for label in (panel.get_xlabel(), panel.get_ylabel()))
        task = number // 3
        shown.add((task, x, y))
        np.testing.assert_allclose(
            drawn_grid(panel), best_per_cell(folder, task, (x, y))[0], err_msg=f"{task} {x} {y}"
        )
        assert len(marked(panel)) == 5
    assert len(shown) == 12
    assert all(task not in (x, y) for task, x, y in shown)


def test_own_measures_are_axes(run_of):
    (panel,) = archive_heatmap(*read(run_of("own measures"))).axes
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("x0", "x1")
    assert panel.get_xlim() == (-1.5, 1.5)
    assert ("task0 expert", 1.3, 0.0) in marked(panel)
    assert len(marked(panel)) == 2


def test_an_aggregate_is_marked_at_its_own_measures(run_of):
    folder = run_of("own measures")
    results = folder.read_results()
    solution = next(e["solution"] for e in folder.read_events() if e["event"] == "final")
    row = {**results["candidates"][0], "name": "z", "solution": solution}
    mark = run_marks(read_history(folder.read_events()), {"candidates": [row], "chosen": "z"})[-1]
    assert mark.values["x0"] == pytest.approx(folder.solutions.get(solution)[0])


def test_voronoi_cells_are_colored_by_their_elites(run_of):
    maps, marks = read(run_of("cvt"))
    for part, panel in zip(maps, archive_heatmap(maps, marks).axes, strict=True):
        (cells,) = (c for c in panel.collections if isinstance(c, PolyCollection))
        low, high = part.objective.min(), part.objective.max()
        full = 0
        for outline, color in zip(cells.get_paths(), cells.get_facecolors(), strict=True):
            inside = [
                i
                for i, place in enumerate(np.clip(part.measures, part.low, part.high))
                if Outline(outline.vertices).contains_point(place, radius=1e-9)
                or Outline(outline.vertices).contains_point(place, radius=-1e-9)
            ]
            quality = [VIRIDIS((part.objective[i] - low) / (high - low)) for i in inside]
            full += bool(inside)
            assert any(np.allclose(color, q) for q in quality) == bool(inside)
        assert full == len(part.objective)


def test_voronoi_cells_of_one_axis_are_bars_between_the_middles(run_of):
    maps, marks = read(run_of("cvt, two tasks"))
    for part, panel in zip(maps, archive_heatmap(maps, marks).axes, strict=True):
        spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in panel.patches]
        assert len(spans) == len(part.objective)
        for (left, right), place, quality, bar in zip(
            spans, part.measures[:, 0], part.objective, panel.patches, strict=True
        ):
            assert left - 1e-9 <= np.clip(place, part.low[0], part.high[0]) <= right + 1e-9
            assert bar.get_height() == quality


@pytest.mark.parametrize("name", ["dns", "proximity"])
def test_archives_without_cells_show_every_elite_as_a_point(run_of, name):
    maps, marks = read(run_of(name))
    for part, panel in zip(maps, archive_heatmap(maps, marks).axes, strict=True):
        points = panel.collections[0]
        order = np.argsort(part.objective, kind="stable")
        np.testing.assert_allclose(points.get_offsets(), part.measures[order])
        np.testing.assert_allclose(points.get_array(), part.objective[order])
        for _, x, y in marked(panel):
            assert panel.get_xlim()[0] < x < panel.get_xlim()[1]
            assert panel.get_ylim()[0] < y < panel.get_ylim()[1]


def test_mirrored_cells_tile_the_rectangle():
    rng = np.random.default_rng(3)
    low, high = np.array([-1.0, 5.0]), np.array([1.0, 5.5])
    points = rng.uniform(low, high, size=(40, 2))
    cells = bounded_cells(points, low, high)
    areas = [
        0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
        for x, y in (cell.T for cell in cells)
    ]
    assert sum(areas) == pytest.approx(np.prod(high - low))
    for place in rng.uniform(low, high, size=(200, 2)):
        nearest = ((points - place) / (high - low) ** 1) ** 2
        assert Outline(cells[int(nearest.sum(axis=1).argmin())]).contains_point(place)


def grid_map(n_axes: int, bins: int = 3, name: str = "t") -> ArchiveMap:
    rng = np.random.default_rng(n_axes)
    cells = np.array(list(np.ndindex(*[bins] * n_axes)))[:50]
    return ArchiveMap(
        Task(f"{name}0"),
        tuple(Task(f"{name}{k + 1}") for k in range(n_axes)),
        rng.random(len(cells)),
        (cells + 0.5) / bins,
        np.zeros(n_axes),
        np.ones(n_axes),
        True,
        boundaries=(np.linspace(0, 1, bins + 1),) * n_axes,
        cells=cells,
    )


def test_what_lies_beyond_an_axis_is_marked_at_its_end():
    mark = Mark("far", {"t1": 7.0, "t2": -3.0})
    assert marked(archive_heatmap([grid_map(2)], [mark]).axes[0]) == [("far", 1.0, 0.0)]


def test_a_model_without_a_value_on_an_axis_is_not_marked():
    assert not marked(archive_heatmap([grid_map(2)], [Mark("m", {"t1": 0.5})]).axes[0])


def test_many_axes_show_neighboring_pairs_only():
    figure = archive_heatmap([grid_map(6, bins=2)])
    panels = [panel for panel in figure.axes if panel.get_xlabel()]
    assert [panel.get_xlabel()[1] for panel in panels] == list("12345")
    assert [panel.get_ylabel()[1] for panel in panels] == list("23456")


def test_equal_qualities_still_have_a_color_range():
    part = grid_map(2)
    part.objective[:] = 0.5
    low, high = part.quality_range
    assert low < 0.5 < high
    archive_heatmap([part])


def test_bars_need_no_marks():
    (panel,) = archive_heatmap([grid_map(1)]).axes
    assert [bar.get_height() for bar in panel.patches] == grid_map(1).objective.tolist()


@pytest.mark.parametrize(("bins", "edge"), [(15, "white"), (225, "bar")])
def test_narrow_bars_are_not_swallowed_by_white_edges(bins, edge):
    (panel,) = archive_heatmap([grid_map(1, bins=bins)]).axes
    for bar in panel.patches:
        expected = (1, 1, 1, 1) if edge == "white" else bar.get_facecolor()
        assert bar.get_edgecolor() == expected


def test_no_archives_are_refused():
    with pytest.raises(ValueError, match="no archives"):
        archive_heatmap([])


def test_a_measure_is_labelled_by_its_name_alone():
    part = grid_map(2)
    named = ArchiveMap(
        Task("q", metric="pass@1"),
        (Measure("length", (0, 1)), Task("$x_1$")),
        *(part.objective, part.measures, part.low, part.high, True, part.boundaries, part.cells),
    )
    (panel,) = archive_heatmap([named]).axes
    assert panel.get_xlabel() == "length"
    assert panel.get_ylabel() == "$x_1$ score"
    assert panel.child_axes[0].get_title(loc="left") == "quality: q (pass@1)"
