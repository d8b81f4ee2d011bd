"""Pareto fronts of the sets that methods found, for pairs of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from qdmerge.reports._style import (
    CHOSEN_COLOR,
    EMPTY_COLOR,
    LINES,
    MARKERS,
    TASK_COLORS,
    WIDTH,
    legend_shape,
    new_figure,
    shorten,
    styled,
)

_FEW = 5  # so few models are shown as symbols


@styled
def comparison_fronts(summary: Mapping[str, Any], block: str) -> Figure:
    """Median Pareto front of each method on the selection split, a panel per pair of tasks.

    Args:
        summary: ``compare.json``.
        block: Name of the test bed.

    Returns:
        A figure 9 inches wide.

    Raises:
        ValueError: No fronts of this test bed, such as with one task.
    """
    fronts = [one for one in summary["fronts"] if one["block"] == block and one["methods"]]
    if not fronts:
        raise ValueError(f"there are no fronts on '{block}' to draw")
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
        _draw_panel(panel, front["methods"], methods, summary["reference"])
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


def _draw_panel(
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
    panel.grid(color=EMPTY_COLOR)
    panel.set_axisbelow(True)


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
