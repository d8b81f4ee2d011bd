"""Best-so-far curves of methods, one panel each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from qdmerge.reports._compare import MEASURE_NAMES, METHOD_COLOR
from qdmerge.reports._style import (
    CHOSEN_COLOR,
    EMPTY_COLOR,
    REFERENCE_COLOR,
    WIDTH,
    new_figure,
    shorten,
    styled,
)

_COLUMNS = 4
_SPLITS = {"held_out": "selection split", "validation": "validation split"}

Curves = dict[str, Mapping[str, list[float]]]


@styled
def comparison_curves(
    summary: Mapping[str, Any],
    block: str,
    measure: str,
    split: Literal["held_out", "validation"] = "held_out",
) -> Figure:
    """The best model so far against evaluations: median and quartiles over runs.

    A panel per method, with all medians in its background, since a dozen bands in one panel cannot
    be told apart.

    Args:
        summary: ``compare.json``.
        block: Name of the test bed.
        measure: Which measure over the tasks.
        split: Where the best by validation is scored: held out, or on validation itself.

    Returns:
        A figure 9 inches wide.

    Raises:
        ValueError: No curves of this test bed and measure.
    """
    curves: Curves = {
        one["method"]: one[split]
        for one in summary["curves"]
        if one["block"] == block and one["measure"] == measure and one[split]["evaluations"]
    }
    if not curves:
        raise ValueError(f"there are no curves of {measure} on '{block}' to draw")
    columns = min(_COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    figure = new_figure(WIDTH, 1.75 * rows + 0.95)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, name in zip(panels, curves, strict=False):
        _draw_panel(panel, curves, name, summary["reference"])
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
    over = MEASURE_NAMES[measure] + " over the tasks" if len(summary["tasks"]) > 1 else "score"
    figure.supylabel(f"{over}, {_SPLITS[split]}", fontsize=10)
    figure.legend(handles=_key(summary["reference"]), loc="outside lower center", ncols=3)
    return figure


def _draw_panel(panel: Axes, curves: Curves, name: str, reference: str) -> None:
    for other, curve in curves.items():
        if other not in (name, reference):
            _draw_line(panel, curve, REFERENCE_COLOR, 0.9)
    if reference in curves and name != reference:
        _draw_line(panel, curves[reference], CHOSEN_COLOR, 1.4)
    own = curves[name]
    color = CHOSEN_COLOR if name == reference else METHOD_COLOR
    panel.fill_between(
        own["evaluations"],
        own["low"],
        own["high"],
        step="post",
        color=color,
        alpha=0.25,
        linewidth=0,
    )
    _draw_line(panel, own, color, 1.8)
    panel.plot(
        own["evaluations"][-1], own["median"][-1], "o", color=color, markersize=4, clip_on=False
    )
    panel.grid(color=EMPTY_COLOR)
    panel.set_axisbelow(True)


def _draw_line(panel: Axes, curve: Mapping[str, list[float]], color: str, width: float) -> None:
    panel.plot(
        curve["evaluations"], curve["median"], color=color, linewidth=width, drawstyle="steps-post"
    )


def _key(reference: str) -> list[Line2D]:
    return [
        Line2D([], [], color=METHOD_COLOR, linewidth=1.8, label="median, band: quartiles"),
        Line2D([], [], color=CHOSEN_COLOR, linewidth=1.8, label=shorten(reference, 30)),
        Line2D([], [], color=REFERENCE_COLOR, linewidth=1.2, label="other methods"),
    ]
