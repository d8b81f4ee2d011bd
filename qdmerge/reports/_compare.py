"""Methods side by side: test scores with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from qdmerge.reports._style import (
    CHOSEN_COLOR,
    EMPTY_COLOR,
    MUTED,
    TASK_COLORS,
    WIDTH,
    new_figure,
    shorten,
    styled,
)

MEASURE_NAMES = {
    "mean": "mean",
    "geometric_mean": "geometric mean",
    "minimum": "minimum",
    "weights": "weighted mean",
}
METHOD_COLOR = TASK_COLORS[0]
RUN_COLOR = "#B5B5B5"


@styled
def comparison_chart(summary: Mapping[str, Any], criterion: str) -> Figure:
    """Test scores of the methods' picks: a row per method, a panel per measure over the tasks.

    Args:
        summary: ``compare.json``.
        criterion: Whose picks.

    Returns:
        A figure 9 inches wide, best method first by what the criterion wants.
    """
    measures = list(summary["measures"])
    names = _ranked(summary, criterion if criterion in measures else measures[0], criterion)
    figure = new_figure(WIDTH, 0.29 * len(names) + 1.35)
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for panel, measure in zip(panels, measures, strict=True):
        told = {
            name: (summary["methods"][name]["picks"].get(criterion) or {}).get(measure)
            for name in names
        }
        _draw_panel(panel, told, summary["reference"])
        panel.set_title(MEASURE_NAMES[measure])
    panels[0].set_yticks(range(len(names)), [shorten(name, 30) for name in names])
    for text, name in zip(panels[0].get_yticklabels(), names, strict=True):
        text.set_fontweight("bold" if name == summary["reference"] else "normal")
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    over = "on the task" if len(summary["tasks"]) == 1 else "over the tasks"
    label = f"test score {over}, of the pick by {MEASURE_NAMES[criterion]}"
    panels[len(panels) // 2].set_xlabel(label)
    figure.legend(handles=_key(summary), loc="outside lower center", ncols=3)
    return figure


def _ranked(summary: Mapping[str, Any], measure: str, criterion: str) -> list[str]:
    """Names of the methods, best first; those without a pick last."""

    def value(name: str) -> float:
        told = (summary["methods"][name]["picks"].get(criterion) or {}).get(measure)
        return told["value"] if told else float("-inf")

    return sorted(summary["methods"], key=value, reverse=True)


def _draw_panel(panel: Axes, told: Mapping[str, Mapping[str, Any] | None], reference: str) -> None:
    if known := told[reference]:
        panel.axvline(known["value"], color=CHOSEN_COLOR, linewidth=1, linestyle=(0, (4, 2)))
    for row, (name, one) in enumerate(told.items()):
        if one is None:
            panel.text(
                0.02,
                row,
                "no run",
                transform=panel.get_yaxis_transform(),
                va="center",
                fontsize=9,
                color=MUTED,
                style="italic",
            )
            continue
        color = CHOSEN_COLOR if name == reference else METHOD_COLOR
        if len(one["runs"]) > 1:
            panel.plot(
                one["runs"],
                [row + 0.27] * len(one["runs"]),
                "o",
                color=RUN_COLOR,
                markersize=3.5,
                markeredgewidth=0,
            )
        if one["ci95"] is not None:
            panel.plot(one["ci95"], [row, row], color=color, linewidth=1.8, solid_capstyle="butt")
        panel.plot(
            one["value"],
            row,
            "o",
            color=color,
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=3,
        )
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.grid(axis="x", color=EMPTY_COLOR)
    panel.set_axisbelow(True)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)


def _key(summary: Mapping[str, Any]) -> Sequence[Line2D]:
    return [
        Line2D(
            [],
            [],
            color=METHOD_COLOR,
            marker="o",
            markeredgecolor="white",
            markersize=6.5,
            label="mean over runs with 95 % interval",
        ),
        Line2D(
            [],
            [],
            color=CHOSEN_COLOR,
            marker="o",
            markeredgecolor="white",
            markersize=6.5,
            label=shorten(summary["reference"], 30),
        ),
        Line2D(
            [],
            [],
            color=RUN_COLOR,
            marker="o",
            linestyle="none",
            markersize=3.5,
            label="single runs",
        ),
    ]
