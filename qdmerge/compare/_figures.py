"""The figures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from qdmerge.compare._summary import ranked
from qdmerge.criteria import CRITERIA
from qdmerge.reports._style import (
    CHOSEN_COLOR,
    LINES,
    MARKERS,
    MUTED,
    REFERENCE_COLOR,
    TASK_COLORS,
    WIDTH,
    legend_shape,
    new_figure,
    save_figure,
    shorten,
    styled,
)

METHOD_COLOR = TASK_COLORS[0]
_MEAN: dict[str, Any] = {"marker": "o", "markersize": 6.5, "markeredgecolor": "white"}
_RUN: dict[str, Any] = {
    "marker": "o",
    "markersize": 3.5,
    "markeredgewidth": 0,
    "color": "#B5B5B5",
    "linestyle": "none",
}


@styled
def comparison_chart(summary: Mapping[str, Any], criterion: str) -> Figure:
    """Draw test scores of the picks: a row per method, a panel per number over the tasks.

    Args:
        summary: ``compare.json``.
        criterion: Criterion of the picks.

    Returns:
        A figure 9 inches wide, best method first.
    """
    numbers = list(summary["measures"])
    names = ranked(summary, criterion)
    figure = new_figure(WIDTH, 0.29 * len(names) + 1.35)
    panels = figure.subplots(1, len(numbers), sharey=True, squeeze=False)[0]
    for panel, number in zip(panels, numbers, strict=True):
        known = {
            name: (summary["methods"][name]["picks"].get(criterion) or {}).get(number)
            for name in names
        }
        _draw_scores(panel, known, summary["reference"])
        panel.set_title(CRITERIA[number])
    panels[0].set_yticks(range(len(names)), [shorten(name, 30) for name in names])
    for text, name in zip(panels[0].get_yticklabels(), names, strict=True):
        text.set_fontweight("bold" if name == summary["reference"] else "normal")
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    over = "on the task" if len(summary["tasks"]) == 1 else "over the tasks"
    label = f"test score {over}, of the pick by {CRITERIA[criterion]}"
    panels[len(panels) // 2].set_xlabel(label)
    figure.legend(handles=_scores_key(summary), loc="outside lower center", ncols=3)
    return figure


def _draw_scores(
    panel: Axes, scores: Mapping[str, Mapping[str, Any] | None], reference: str
) -> None:
    if best := scores[reference]:
        panel.axvline(best["value"], color=CHOSEN_COLOR, linewidth=1, linestyle=(0, (4, 2)))
    for row, (name, one) in enumerate(scores.items()):
        if one is None:
            place: dict[str, Any] = {"transform": panel.get_yaxis_transform(), "va": "center"}
            panel.text(0.02, row, "no run", fontsize=9, color=MUTED, style="italic", **place)
            continue
        color = CHOSEN_COLOR if name == reference else METHOD_COLOR
        if len(runs := one["runs"]) > 1:
            panel.plot(runs, [row + 0.27] * len(runs), **_RUN)
        if one["ci95"] is not None:
            panel.plot(one["ci95"], [row, row], color=color, linewidth=1.8, solid_capstyle="butt")
        panel.plot(one["value"], row, color=color, markeredgewidth=0.7, zorder=3, **_MEAN)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.grid(axis="x")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)


def _scores_key(summary: Mapping[str, Any]) -> list[Line2D]:
    reference = shorten(summary["reference"], 30)
    return [
        Line2D([], [], color=METHOD_COLOR, label="mean over runs with 95 % interval", **_MEAN),
        Line2D([], [], color=CHOSEN_COLOR, label=reference, **_MEAN),
        Line2D([], [], label="single runs", **_RUN),
    ]


_COLUMNS = 4
_SPLITS = {"held_out": "selection split", "validation": "validation split"}

Curves = dict[str, Mapping[str, list[float]]]


@styled
def comparison_curves(
    summary: Mapping[str, Any],
    test_bed: str,
    criterion: str,
    split: Literal["held_out", "validation"] = "held_out",
) -> Figure:
    """Draw the best model so far against evaluations: median and quartiles over runs.

    Each method has a panel, with the medians of the others in its background.

    Args:
        summary: ``compare.json``.
        test_bed: Name of the test bed.
        criterion: Criterion that makes one number of the scores.
        split: Where the best model by validation is scored: held out, or on validation itself.

    Returns:
        A figure 9 inches wide.

    Raises:
        ValueError: No curves of this test bed and criterion.
    """
    curves: Curves = {
        one["method"]: one[split]
        for one in summary["curves"]
        if one["block"] == test_bed and one["measure"] == criterion and one[split]["evaluations"]
    }
    if not curves:
        raise ValueError(f"there are no curves of {criterion} on '{test_bed}' to draw")
    columns = min(_COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    figure = new_figure(WIDTH, 1.75 * rows + 0.95)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, name in zip(panels, curves, strict=False):
        _draw_curves(panel, curves, name, summary["reference"])
        panel.set_title(shorten(name, 76 // columns))
    for position, panel in enumerate(panels):
        if position >= len(curves):
            panel.remove()
        elif position + columns >= len(curves):  # nothing below it
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("evaluations")
    panels[0].set_xlim(0, max(curve["evaluations"][-1] for curve in curves.values()) or 1)
    panels[0].xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panels[0].yaxis.set_major_locator(MaxNLocator(5))
    over = CRITERIA[criterion] + " over the tasks" if len(summary["tasks"]) > 1 else "score"
    figure.supylabel(f"{over}, {_SPLITS[split]}", fontsize=10)
    figure.legend(handles=_curves_key(summary["reference"]), loc="outside lower center", ncols=3)
    return figure


def _draw_curves(panel: Axes, curves: Curves, name: str, reference: str) -> None:
    for other, curve in curves.items():
        if other not in (name, reference):
            _draw_line(panel, curve, REFERENCE_COLOR, 0.9)
    if reference in curves and name != reference:
        _draw_line(panel, curves[reference], CHOSEN_COLOR, 1.4)
    own = curves[name]
    color = CHOSEN_COLOR if name == reference else METHOD_COLOR
    at = own["evaluations"]
    band: dict[str, Any] = {"step": "post", "alpha": 0.25, "linewidth": 0}
    panel.fill_between(at, own["low"], own["high"], color=color, **band)
    _draw_line(panel, own, color, 1.8)
    panel.plot(at[-1], own["median"][-1], "o", color=color, markersize=4, clip_on=False)
    panel.grid()


def _draw_line(panel: Axes, curve: Mapping[str, list[float]], color: str, width: float) -> None:
    panel.plot(
        curve["evaluations"], curve["median"], color=color, linewidth=width, drawstyle="steps-post"
    )


def _curves_key(reference: str) -> list[Line2D]:
    return [
        Line2D([], [], color=METHOD_COLOR, linewidth=1.8, label="median, band: quartiles"),
        Line2D([], [], color=CHOSEN_COLOR, linewidth=1.8, label=shorten(reference, 30)),
        Line2D([], [], color=REFERENCE_COLOR, linewidth=1.2, label="other methods"),
    ]


_FEW = 5
"""Fronts of up to so many models are drawn as symbols."""


@styled
def comparison_fronts(summary: Mapping[str, Any], test_bed: str) -> Figure:
    """Draw each method's median Pareto front on the selection split: a panel per pair of tasks.

    Args:
        summary: ``compare.json``.
        test_bed: Name of the test bed.

    Returns:
        A figure 9 inches wide.

    Raises:
        ValueError: No fronts of this test bed, such as with one task.
    """
    fronts = [one for one in summary["fronts"] if one["block"] == test_bed and one["methods"]]
    if not fronts:
        raise ValueError(f"there are no fronts on '{test_bed}' to draw")
    longest = {
        name: max(len(front["methods"].get(name, ())) for front in fronts)
        for name in summary["methods"]
    }
    methods = {name: most <= _FEW for name, most in longest.items() if most}
    columns = min(len(fronts), 3 if len(fronts) <= 6 else 4)
    rows = -(-len(fronts) // columns)
    side = min(WIDTH / columns, 4.5)
    labels = [shorten(name, 30) for name in methods]
    lines, legend_columns = legend_shape(labels, WIDTH - 1)
    figure = new_figure(WIDTH, rows * side + 0.2 + 0.22 * lines)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, front in zip(panels, fronts, strict=False):
        _draw_front(panel, front["methods"], methods, summary["reference"])
        for name, task in zip(("x", "y"), front["tasks"], strict=True):
            panel.set(**{f"{name}label": shorten(task, int(9 * side))})
    for panel in panels[len(fronts) :]:
        panel.remove()
    handles = [
        _line(at, name, summary["reference"], [], [], symbols)
        for at, (name, symbols) in enumerate(methods.items())
    ]
    figure.legend(handles, labels, loc="outside lower center", ncols=legend_columns, handlelength=3)
    return figure


def _draw_front(
    panel: Axes, fronts: Mapping[str, Any], methods: Mapping[str, bool], reference: str
) -> None:
    points = np.array([point for front in fronts.values() for point in front]).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.where(high > low, 0.06 * (high - low), 0.05)
    panel.set_xlim(low[0] - margin[0], high[0] + margin[0])
    panel.set_ylim(low[1] - margin[1], high[1] + margin[1])
    for at, (name, symbols) in enumerate(methods.items()):
        front = np.array(fronts.get(name, [])).reshape(-1, 2)
        panel.add_line(_line(at, name, reference, front[:, 0], front[:, 1], symbols))
    panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.yaxis.set_major_locator(MaxNLocator(4))
    panel.grid()


def _line(at: int, name: str, reference: str, x: Any, y: Any, symbols: bool) -> Line2D:
    chosen = name == reference
    color = CHOSEN_COLOR if chosen else TASK_COLORS[at % len(TASK_COLORS)]
    return Line2D(
        x,
        y,
        color=color,
        linestyle="none" if symbols else "-" if chosen else LINES[at % len(LINES)],
        marker=MARKERS[at % len(MARKERS)] if symbols else None,
        markeredgecolor="white",
        markersize=6.5,
        linewidth=2.4 if chosen else 1.3,
        drawstyle="steps-pre",
        zorder=3 if chosen or symbols else 2,
    )


def draw_comparison(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw ``methods-<criterion>.png``, ``curves.png`` and ``fronts.png``.

    Several test beds have curves and fronts in a file each, numbered in the order of
    ``compare.json``. Figures without data are omitted.

    Args:
        summary: ``compare.json``.
        folder: Where the figures go; created if missing.

    Returns:
        Paths of the figures.

    Raises:
        RunError: A figure cannot be written.
    """
    shown = summary["choose_by"]
    if shown not in summary["measures"]:
        shown = summary["measures"][0]
    figures: dict[str, Figure] = {}
    for criterion in summary["criteria"]:
        picks = [method["picks"].get(criterion, {}) for method in summary["methods"].values()]
        if any(one for pick in picks for one in pick.values()):
            figures[f"methods-{criterion.replace('_', '-')}"] = comparison_chart(summary, criterion)
    test_beds = list(dict.fromkeys(one["block"] for one in summary["curves"]))
    for number, test_bed in enumerate(test_beds, start=1):
        end = f"-{number}" if len(test_beds) > 1 else ""
        curves = [
            one["held_out"]["evaluations"]
            for one in summary["curves"]
            if (one["block"], one["measure"]) == (test_bed, shown)
        ]
        if any(curves):
            figures[f"curves{end}"] = comparison_curves(summary, test_bed, shown)
        if any(one["block"] == test_bed and one["methods"] for one in summary["fronts"]):
            figures[f"fronts{end}"] = comparison_fronts(summary, test_bed)
    return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]
