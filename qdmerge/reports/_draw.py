"""Draws all figures of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from qdmerge.backend import Measure, Task
from qdmerge.errors import RunError
from qdmerge.reports._candidates import label
from qdmerge.reports._chart import candidates_chart
from qdmerge.reports._heatmap import archive_heatmap
from qdmerge.reports._maps import Mark, archive_maps
from qdmerge.reports._overview import overview
from qdmerge.reports._progress import progress_curves
from qdmerge.reports._style import DPI, styled
from qdmerge.runs import History, RunFolder, read_history


def draw_figures(folder: RunFolder) -> list[Path]:
    """Draws what a run's folder tells so far into ``figures/``.

    ``archives.png`` and ``progress.png`` need the log alone, so an unfinished run has them too;
    ``candidates.png`` and ``overview.png`` need ``results.json``.

    Args:
        folder: The run's folder.

    Returns:
        Paths of the figures; none if base and experts were not evaluated yet.

    Raises:
        RunError: The folder is damaged, or cannot be written.
    """
    history = read_history(folder.read_events())
    archives = history.archives(folder.read_config())
    if not archives:
        return []
    results = folder.read_results() if folder.results.is_file() else None
    maps = archive_maps(archives, history.tasks, history.measures)
    marks = run_marks(history, results)
    figures = {
        "archives": archive_heatmap(maps, marks),
        "progress": progress_curves(history.stats),
    }
    if results is not None:
        figures["candidates"] = candidates_chart(results)
        figures["overview"] = overview(maps, marks, results)
    return [_save(figure, folder.figures / f"{name}.png") for name, figure in figures.items()]


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


@styled
def _save(figure: Figure, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    return path
