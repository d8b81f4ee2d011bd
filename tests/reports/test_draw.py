"""The figures of run folders: which ones, when, and whether they can be read."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from matplotlib.text import Text

from qdmerge.errors import RunError
from qdmerge.reports import (
    archive_heatmap,
    candidates_chart,
    overview,
    progress_curves,
)
from qdmerge.runs import RunFolder, draw_figures
from tests.reports.conftest import RUNS
from tests.reports.test_heatmap import grid_map, read

FROM_LOG = ["archives.png", "progress.png", "filling.png"]
FINISHED = [*FROM_LOG, "candidates.png", "overview.png"]


def overlaps_and_clips(figure):
    """Texts that overlap, and texts that leave the figure; tick labels apart."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    ticks = {
        label
        for panel in figure.axes
        for each in (panel, *panel.child_axes)
        for label in (*each.get_xticklabels(which="both"), *each.get_yticklabels(which="both"))
    }
    texts = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible() and t not in ticks]
    boxes = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in texts]
    paper = figure.bbox.padded(1)
    clipped = [
        text
        for text, box in boxes
        if not (paper.contains(box.x0, box.y0) and paper.contains(box.x1, box.y1))
    ]
    clashes = [
        (one, two)
        for (one, a), (two, b) in combinations(boxes, 2)
        if a.padded(-1.5).overlaps(b.padded(-1.5))
    ]
    return clashes, clipped


def test_a_finished_run_gets_all_figures_and_nothing_else(run_of):
    folder = run_of("three tasks")
    before = {path for path in folder.path.rglob("*") if folder.figures not in path.parents}
    figures = draw_figures(folder)
    assert [path.name for path in figures] == FINISHED
    assert all(path.parent == folder.figures for path in figures)
    after = {path for path in folder.path.rglob("*") if folder.figures not in path.parents}
    assert after - {folder.figures} == before - {folder.figures}
    for path in figures:
        image = imread(path)
        assert image.shape[1] == 1800
        assert image.std() > 0.01


def test_an_unfinished_run_gets_what_its_log_can_tell(unfinished):
    folder = unfinished("three tasks", 5)
    assert [path.name for path in draw_figures(folder)] == FROM_LOG


def test_a_run_with_only_its_seeds_gets_figures_of_what_is_there(unfinished):
    assert [path.name for path in draw_figures(unfinished("two tasks", 1))] == FROM_LOG[:2]


def test_a_run_without_seeds_gets_none(unfinished):
    folder = unfinished("three tasks", 0)
    assert draw_figures(folder) == []
    assert not folder.figures.exists()


def test_the_same_run_gives_the_same_bytes_whatever_the_users_style(run_of, tmp_path):
    def digests(name):
        folder = RunFolder(shutil.copytree(run_of("two tasks").path, tmp_path / name))
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in draw_figures(folder)]

    before = dict(matplotlib.rcParams)
    first = digests("first")
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"font.size": 22, "axes.facecolor": "black", "savefig.dpi": 40}):
        assert digests("second") == first


def test_an_unwritable_folder_is_told(run_of, tmp_path):
    folder = RunFolder(shutil.copytree(run_of("two tasks").path, tmp_path / "run"))
    shutil.rmtree(folder.figures, ignore_errors=True)
    folder.figures.write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*figures"):
        draw_figures(folder)


@pytest.mark.parametrize("name", sorted({*RUNS} - {"cvt, two tasks"}))
def test_no_text_is_clipped_or_covers_another(run_of, name):
    folder = run_of(name)
    maps, marks = read(folder)
    results = folder.read_results()
    for figure in (overview(maps, marks, results), archive_heatmap(maps, marks)):
        assert overlaps_and_clips(figure) == ([], [])
    assert overlaps_and_clips(candidates_chart(results)) == ([], [])


def test_long_names_are_shortened_rather_than_clipped(results):
    long = "a task with quite a long name, number "
    maps = [grid_map(2, bins=15, name=long) for _ in range(3)]
    assert overlaps_and_clips(archive_heatmap(maps)) == ([], [])
    names = [f"{long}{n}" for n in range(2)]
    results["tasks"] = names
    for row in results["candidates"]:
        row["name"] = row["name"].replace(":", f":{long}")
        for split in ("validation", "selection", "test"):
            row[split] = dict(zip(names, row[split].values(), strict=True))
    assert overlaps_and_clips(candidates_chart(results)) == ([], [])
    assert overlaps_and_clips(overview(maps, [], results)) == ([], [])
    stats = {"elites": 1, "coverage": 0.5, "qd_score": 1.0, "best": 1.0}
    curves = progress_curves([(n, dict.fromkeys(names, stats)) for n in (0, 5)])
    assert overlaps_and_clips(curves) == ([], [])


def test_overview_joins_archives_references_and_the_chosen_model(run_of):
    folder = run_of("three tasks")
    maps, marks = read(folder)
    results = folder.read_results()
    *panels, chart = overview(maps, marks, results).axes
    assert len(panels) == 3
    for panel, alone in zip(panels, archive_heatmap(maps, marks).axes, strict=True):
        np.testing.assert_array_equal(
            panel.collections[0].get_array(), alone.collections[0].get_array()
        )
    names = [text.get_text() for text in chart.get_yticklabels()]
    assert names[:4] == ["base", "expert:task0", "expert:task1", "expert:task2"]
    assert names[4] == "average"
    assert names[5].startswith("task_arithmetic \u00d7")
    assert names[6].strip("★ ") == "aggregate"
    assert sum("★" in name for name in names) == 1


def test_importing_reports_is_light():
    code = (
        "import sys, qdmerge.runs; qdmerge.runs.draw_figures;"
        "heavy = {'torch', 'ribs', 'matplotlib.pyplot'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
