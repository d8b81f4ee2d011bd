"""The figures of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qdmerge.backend import Measure, Task
from qdmerge.reports._chart import candidates_chart, compact_height, draw_compact
from qdmerge.reports._filling import Moment, archive_filling, filling_moments
from qdmerge.reports._heatmap import archive_heatmap, draw_heatmaps, heatmap_size
from qdmerge.reports._maps import ArchiveMap, Mark, archive_maps
from qdmerge.reports._style import (
    EMPTY_COLOR,
    LINES,
    TASK_COLORS,
    WIDTH,
    legend_shape,
    new_figure,
    save_figure,
    shorten,
    styled,
)
from qdmerge.reports._tables import label
from qdmerge.runs import History, RunFolder, Stats, read_history
from qdmerge.settings import RunConfig

_CURVES = {"qd_score": "QD score", "coverage": "coverage", "best": "best quality"}


@styled
def progress_curves(stats: Sequence[tuple[int, Stats]]) -> Figure:
    """Draw QD score, coverage and best quality over evaluations, a line per task.

    Args:
        stats: Evaluations so far and the archives' statistics, such as
            :attr:`qdmerge.runs.History.stats`. A statistic that is None everywhere gets no panel.

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


def draw_figures(folder: RunFolder) -> list[Path]:
    """Draw all figures of a run, as far as it has come, into its folder ``figures/``.

    ``archives.png``, ``progress.png`` and, once there are children, ``filling.png`` need only the
    log. ``candidates.png`` and ``overview.png`` need ``results.json``.

    Args:
        folder: The run's folder.

    Returns:
        Paths of the figures; none before base and experts were evaluated.

    Raises:
        RunError: The folder is damaged, or cannot be written.
    """
    history = read_history(folder.read_events())
    moments = _moments(history, folder.read_config())
    if not moments:
        return []
    results = folder.read_results() if folder.results.is_file() else None
    maps = moments[-1].maps
    marks = run_marks(history, results)
    figures = {
        "archives": archive_heatmap(maps, marks),
        "progress": progress_curves(history.stats),
    }
    if len(moments) > 1:
        figures["filling"] = archive_filling(moments)
    if results is not None:
        figures["candidates"] = candidates_chart(results)
        figures["overview"] = overview(maps, marks, results)
    return [save_figure(figure, folder.figures / f"{name}.png") for name, figure in figures.items()]


def _moments(history: History, config: RunConfig) -> list[Moment]:
    """Return the archives at the moments that are drawn; [] before the seeds."""
    told = filling_moments(history.stats)
    found = []
    for number, archives in zip(told, history.growth(config, told), strict=True):
        evaluations, stats = history.stats[number - 1]
        maps = archive_maps(archives, history.tasks, history.measures)
        found.append(Moment(evaluations, maps, stats))
    return found


def run_marks(history: History, results: Mapping[str, Any] | None) -> list[Mark]:
    """Return marks of the experts and, if there are results, of the chosen model."""
    parts: list[Task | Measure] = [*history.tasks, *history.measures]
    names = [part.name for part in parts]
    marks = [
        Mark(
            f"{model.name} expert",
            dict(zip(names, [*model.scores, *_numbers(model.measures)], strict=True)),
        )
        for model in history.evaluated
        if model.name in history.experts and model.scores is not None
    ]
    if results is None:
        return marks
    chosen = next(row for row in results["candidates"] if row["name"] == results["chosen"])
    own = _own_measures(history, chosen["solution"])
    measures = {part.name: value for part, value in zip(history.measures, own, strict=False)}
    return [*marks, Mark(f"chosen: {label(chosen)}", {**chosen["validation"], **measures}, True)]


def _own_measures(history: History, solution: str) -> list[float]:
    """Return a solution's own measures on validation; [] if the log has none."""
    for model in history.evaluated:
        if model.solution == solution and model.scores is not None:
            return _numbers(model.measures)
    for event in history.final:
        if event["solution"] == solution and event["split"] == "validation":
            return list(event["measures"])
    return []


def _numbers(values: Any) -> list[float]:
    return [] if values is None else [float(value) for value in values]
