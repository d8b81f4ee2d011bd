"""The figures of a run, from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdmerge.backend import Measure, Task
from qdmerge.reports import (
    Mark,
    Moment,
    archive_filling,
    archive_heatmap,
    archive_maps,
    candidates_chart,
    filling_moments,
    overview,
    progress_curves,
    save_figure,
)
from qdmerge.reports._tables import label
from qdmerge.runs._folder import RunFolder
from qdmerge.runs._history import History, read_history
from qdmerge.settings import RunConfig


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
    figures = {"archives": archive_heatmap(maps, marks), "progress": progress_curves(history.stats)}
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
