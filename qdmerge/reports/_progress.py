"""How the archives grew."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qdmerge.reports._style import (
    EMPTY_COLOR,
    LINES,
    TASK_COLORS,
    WIDTH,
    legend_shape,
    new_figure,
    shorten,
    styled,
)
from qdmerge.runs import Stats

_CURVES = {"qd_score": "QD score", "coverage": "coverage", "best": "best quality"}


@styled
def progress_curves(stats: Sequence[tuple[int, Stats]]) -> Figure:
    """QD score, coverage and best quality over evaluations, one line per task.

    Args:
        stats: Evaluations so far and the archives' statistics, such as
            :attr:`qdmerge.runs.History.stats`. What is None everywhere gets no panel.

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
        panel.grid(color=EMPTY_COLOR)
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
