"""Figures of a whole run: progress, and the overview."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qdmerge.reports._chart import compact_height, draw_compact
from qdmerge.reports._heatmap import draw_heatmaps, heatmap_size
from qdmerge.reports._maps import ArchiveMap, Mark
from qdmerge.reports._style import (
    LINES,
    TASK_COLORS,
    WIDTH,
    legend_shape,
    new_figure,
    shorten,
    styled,
)
from qdmerge.search import Stats

_CURVES = {"qd_score": "QD score", "coverage": "coverage", "best": "best quality"}


@styled
def progress_curves(stats: Sequence[tuple[int, Stats]]) -> Figure:
    """Draw QD score, coverage and best quality over evaluations, a line per task.

    Args:
        stats: Evaluations so far and the archives' statistics, such as
            ``History.stats``. A statistic that is None everywhere gets no panel.

    Returns:
        A figure 9 inches wide.

    Raises:
        ValueError: No statistics.
    """
    if not stats:
        raise ValueError("there are no statistics to draw")
    tasks = list(stats[-1][1])
    curves = [key for key in _CURVES if any(stats[-1][1][task][key] is not None for task in tasks)]
    labels = [shorten(task, 40) for task in tasks]
    rows, columns = legend_shape(labels, WIDTH)
    figure = new_figure(WIDTH, 2.75 + 0.25 * rows)
    for panel, key in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        panel.set_title(_CURVES[key])
        panel.set_xlabel("evaluations")
        panel.set_xlim(0, max(stats[-1][0], 1))
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(5))
        panel.grid()
        for number, task in enumerate(tasks):
            panel.plot(
                [evaluations for evaluations, _ in stats],
                [_number(now[task][key]) for _, now in stats],
                color=TASK_COLORS[number % len(TASK_COLORS)],
                linestyle=LINES[number % len(LINES)],
                linewidth=1.8,
                drawstyle="steps-post",
                marker="o" if len(stats) == 1 else None,
                clip_on=len(stats) > 1,
            )
    lines = panel.get_lines()
    figure.legend(lines, labels, loc="outside lower center", ncols=columns, handlelength=3)
    return figure


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


@styled
def overview(
    maps: Sequence[ArchiveMap], marks: Sequence[Mark], results: Mapping[str, Any]
) -> Figure:
    """Draw the archives' heat maps above the test scores of references and chosen model.

    Args:
        maps: The archives; see :func:`archive_maps`. Of more than two axes, two are shown.
        marks: Models to mark in them.
        results: ``results.json``.

    Returns:
        A figure 9 inches wide.
    """
    top, bottom = heatmap_size(maps, marks)[1], compact_height(results)
    figure = new_figure(WIDTH, top + bottom)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(top, bottom)).ravel()
    draw_heatmaps(above, maps, marks)
    draw_compact(below, results)
    return figure
