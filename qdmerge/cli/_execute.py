"""Runs a search, and prints what it left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from qdmerge.cli._common import console, end_like_interrupt, error_console, print_warning
from qdmerge.errors import EvaluationError, RunError
from qdmerge.storage import write_whole

if TYPE_CHECKING:
    from qdmerge.runs import Run, RunFolder, RunProgress


def execute(run: Run) -> None:
    """Start or resume a run; an error is the user's unless models were evaluated already."""
    from qdmerge.cli._progress import show_progress

    end_like_interrupt()
    evaluating = False
    try:
        with show_progress(console) as listener:

            def watch(progress: RunProgress) -> None:
                nonlocal evaluating
                evaluating |= progress.stage in ("seeds", "search")
                listener(progress)

            run.execute(watch)
    except RunError as error:
        if not evaluating:
            raise
        raise EvaluationError(str(error)) from error
    except KeyboardInterrupt:
        error_console.print(
            f"Interrupted; everything so far is in {run.folder.path}. "
            f"To continue: qdmerge resume {run.folder.path}"
        )
        raise typer.Exit(130) from None
    for warning in run.warnings:
        print_warning(warning)
    report_results(run.folder)


def report_results(folder: RunFolder) -> None:
    """Draw the figures of a run, write and print its tables."""
    from qdmerge.reports import results_markdown, results_table, side_tasks_table
    from qdmerge.runs import draw_figures

    figures = draw_figures(folder)
    if folder.results.is_file():
        results = folder.read_results()
        write_whole(folder.table, results_markdown(results))
        console.print(results_table(results))
        side_tasks = side_tasks_table(results)
        if side_tasks is not None:
            console.print(side_tasks)
    console.print(f"In {folder.path}:")
    own = {path for path in folder.figures.rglob("*") if path.is_file()} - {*figures}
    written = [folder.results, folder.table, *figures, *sorted(own), folder.model]
    for path in written:
        if path.exists():
            console.print(f"  {path.relative_to(folder.path)}")
