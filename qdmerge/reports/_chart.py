"""The chart of candidates beside base, experts and merges."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from qdmerge.reports._style import (
    CHOSEN_COLOR,
    FOUND_COLOR,
    MARKERS,
    MUTED,
    REFERENCE_COLOR,
    TASK_COLORS,
    WIDTH,
    Canvas,
    legend_shape,
    new_figure,
    shorten,
    styled,
)
from qdmerge.reports._tables import FOUND, Candidate, essential, group, label, leading, number

_NUMBERS = (48, 116, 158)
"""Points from the bars to the columns of numbers."""
_ROW = 0.255
"""Inches of a row."""
_BARS = 6.3
"""Inches of the bars, between the names and the numbers."""


@styled
def candidates_chart(results: Mapping[str, Any], max_rows: int = 24) -> Figure:
    """Draw the candidates' test scores: a symbol per task, the mean as a bar with its interval.

    Args:
        results: ``results.json``.
        max_rows: About how many candidates to show; the figure names those it leaves out.

    Returns:
        A figure 9 inches wide, as high as its rows need.
    """
    rows, notes = leading(results, max_rows)
    text = textwrap.fill(" ".join(notes), 118)
    groups = len({group(row) for row in rows})
    foot = 0.16 * len(text.splitlines()) + (0.05 if text else 0)
    height = _ROW * (len(rows) + 1.2 * groups) + _frame(results) + foot
    figure = new_figure(WIDTH, height, foot)
    figure.text(0.01, 0.06 / height, text, fontsize=9, color=MUTED, va="bottom")
    _fill(figure, rows, results, headings=True)
    return figure


def compact_height(results: Mapping[str, Any]) -> float:
    """Return the inches that :func:`draw_compact` needs."""
    return _ROW * (len(essential(results)) + 0.2) + _frame(results)


def draw_compact(canvas: Canvas, results: Mapping[str, Any]) -> None:
    """Draw the references, the paper's aggregate and the chosen model."""
    _fill(canvas, essential(results), results, headings=False)


def _frame(results: Mapping[str, Any]) -> float:
    """Return the inches of axis and legend."""
    return 0.65 + 0.22 * legend_shape([shorten(task, 40) for task in results["tasks"]], _BARS)[0]


def _fill(
    canvas: Canvas, rows: Sequence[Candidate], results: Mapping[str, Any], headings: bool
) -> None:
    panel = canvas.subplots()
    _draw_rows(panel, rows, results, headings)
    names = [shorten(task, 40) for task in results["tasks"]]
    if len(names) > 1:
        panel.legend(
            handles=[_task_symbol(position, [], [], name) for position, name in enumerate(names)],
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderpad=0,
            borderaxespad=0.3,
            handletextpad=0.2,
            ncols=legend_shape(names, _BARS)[1],
        )


def _draw_rows(
    panel: Axes, rows: Sequence[Candidate], results: Mapping[str, Any], headings: bool
) -> None:
    heights = _heights(rows, headings)
    left = _set_score_axis(panel, rows)
    names = []
    for row, height in zip(rows, heights, strict=True):
        chosen = row["name"] == results["chosen"]
        names.append(("\u2605 " if chosen else "") + shorten(label(row), 36))
        _draw_row(panel, row, height, _color(row, chosen), chosen, left)
    if headings:
        for row, height in _firsts(rows, heights):
            panel.text(
                -0.01,
                height - 1,
                group(row),
                transform=panel.get_yaxis_transform(),
                ha="right",
                va="center",
                color=MUTED,
                style="italic",
            )
    panel.set_yticks(heights, names)
    for text, row in zip(panel.get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if row["name"] == results["chosen"] else "normal")
    panel.set_ylim(heights[-1] + 0.6, heights[0] - (1.5 if headings else 0.6))
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    for column, title in enumerate(_columns(rows[0]).values()):
        panel.annotate(
            title,
            (1, 1),
            (_NUMBERS[column], 3),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color=MUTED,
        )


def _set_score_axis(panel: Axes, rows: Sequence[Candidate]) -> float:
    """Set the axis of scores; return where bars begin: at 0, or left of all scores if there are
    negative ones, so that a longer bar is always the better one.
    """
    scores = [score for row in rows for score in row["test"].values()]
    ends = [end for row in rows for end in row["test_mean_ci95"] or ()]
    low, high = min(*scores, *ends, 0.0), max(*scores, *ends)
    margin = 0.02 * (high - low or 1)
    left = low and low - margin
    panel.set_xlim(left, high + margin)
    task, *others = rows[0]["test"]
    interval = " with 95 % interval" if ends else ""
    panel.set_xlabel(
        f"test score (bar: mean over the tasks{interval})"
        if others
        else f"test score on {shorten(task, 40)}{interval}"
    )
    panel.xaxis.set_major_locator(MaxNLocator(6))
    panel.grid(axis="x")
    return left


def _heights(rows: Sequence[Candidate], headings: bool) -> list[float]:
    """Return the heights of the rows, with room for a heading above each group."""
    heights: list[float] = []
    for position, row in enumerate(rows):
        new = headings and position and group(row) != group(rows[position - 1])
        heights.append(heights[-1] + (2.2 if new else 1) if heights else 0.0)
    return heights


def _firsts(rows: Sequence[Candidate], heights: Sequence[float]) -> list[tuple[Candidate, float]]:
    return [
        (row, heights[position])
        for position, row in enumerate(rows)
        if not position or group(row) != group(rows[position - 1])
    ]


def _columns(row: Candidate) -> dict[str, str]:
    """Return key and title of the numbers beside the bars; with one task all are the same."""
    if len(row["test"]) == 1:
        return {"test_mean": "score"}
    return {"test_mean": "mean", "test_gmean": "geom. mean", "test_min": "min"}


def _color(row: Candidate, chosen: bool) -> str:
    if chosen:
        return CHOSEN_COLOR
    return FOUND_COLOR if row["kind"] in FOUND else REFERENCE_COLOR


def _draw_row(
    panel: Axes, row: Candidate, height: float, color: str, chosen: bool, left: float
) -> None:
    mean = row["test_mean"]
    panel.barh(height + 0.2, mean - left, left=left, height=0.4, color=color)
    if row["test_mean_ci95"] is not None:
        low, high = row["test_mean_ci95"]
        error = [[mean - low], [high - mean]]
        panel.errorbar(mean, height + 0.2, xerr=error, color="black", linewidth=1.3, capsize=2.2)
    for position, score in enumerate(row["test"].values() if len(row["test"]) > 1 else ()):
        panel.add_line(_task_symbol(position, [score], [height - 0.2]))
    for column, key in enumerate(_columns(row)):
        panel.annotate(
            number(row[key]),
            (1, height),
            (_NUMBERS[column], 0),
            xycoords=panel.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9.5,
            fontweight="bold" if chosen else "normal",
        )


def _task_symbol(position: int, x: list[float], y: list[float], name: str = "") -> Line2D:
    return Line2D(
        x,
        y,
        linestyle="none",
        marker=MARKERS[position % len(MARKERS)],
        markersize=6.5,
        markerfacecolor=TASK_COLORS[position % len(TASK_COLORS)],
        markeredgecolor="white",
        markeredgewidth=0.7,
        label=name,
        clip_on=False,
        zorder=3,
    )
