"""Draws all figures of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdmerge.backend import Measure, Task
from qdmerge.config import RunConfig
from qdmerge.reports._candidates import label
from qdmerge.reports._chart import candidates_chart
from qdmerge.reports._filling import Moment, archive_filling, filling_moments
from qdmerge.reports._heatmap import archive_heatmap
from qdmerge.reports._maps import Mark, archive_maps
from qdmerge.reports._overview import overview
from qdmerge.reports._progress import progress_curves
from qdmerge.reports._style import save_figure
from qdmerge.runs import History, RunFolder, read_history


def draw_figures(folder: RunFolder) -> list[Path]:
    """Draws what a run's folder tells so far into ``figures/``.

    ``archives.png``, ``progress.png`` and, as soon as there are children, ``filling.png`` need the
    log alone, so an unfinished run has them too; ``candidates.png`` and ``overview.png`` need
    ``results.json``.

    Args:
        folder: The run's folder.

    Returns:
        Paths of the figures; none if base and experts were not evaluated yet.

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
    """The archives at the moments that are drawn, last as they stand; [] before the seeds."""
    told = filling_moments(history.stats)
    found = []
    for number, archives in zip(told, history.growth(config, told), strict=True):
        evaluations, stats = history.stats[number - 1]
        maps = archive_maps(archives, history.tasks, history.measures)
        found.append(Moment(evaluations, maps, stats))
    return found


def run_marks(history: History, results: Mapping[str, Any] | None) -> list[Mark]:
    """The experts and, if the run has results, the chosen model, at their validation scores."""
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
    """The backend's own measures of a solution on validation; [] if they are not in the log."""
    for model in history.evaluated:
        if model.solution == solution and model.scores is not None:
            return _numbers(model.measures)
    for event in history.final:
        if event["solution"] == solution and event["split"] == "validation":
            return list(event["measures"])
    return []


def _numbers(values: Any) -> list[float]:
    return [] if values is None else [float(value) for value in values]
