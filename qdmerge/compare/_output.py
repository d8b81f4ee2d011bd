"""The files of a comparison: every run as a line, the summary as data and as a page, figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from qdmerge.compare._pareto import Box
from qdmerge.compare._plan import PlannedRun
from qdmerge.compare._rows import read_rows
from qdmerge.compare._study import Study
from qdmerge.compare._summary import summarize
from qdmerge.compare._tables import summary_table, tidy_rows
from qdmerge.errors import ConfigError, RunError
from qdmerge.runs import RunFolder, versions

_PACKAGES = ("scipy", "moocore", "cma", "pymoo")
"""Packages that a comparison's numbers depend on, beside those of a run."""


def write_comparison(study: Study, planned: Sequence[PlannedRun], reference: str) -> list[Path]:
    """Writes ``runs.csv``, ``compare.json``, ``compare.md`` and figures into a study's folder.

    Args:
        study: The study, executed.
        planned: Its runs.
        reference: The method that the others are compared with.

    Returns:
        The files, the page first.

    Raises:
        ConfigError: Unknown reference.
        RunError: A run's folder is damaged, or a file cannot be written.
    """
    from qdmerge.reports import draw_comparison

    rows = read_rows(planned, study.failures)
    if not any(row.status == "ok" for row in rows):
        first, *others = dict.fromkeys(row.cause for row in rows)
        more = f" ({len(others)} other causes)" if others else ""
        raise RunError(
            f"every run failed: {first}{more}. Give the same command again when it is mended"
        )
    final = study.config.final
    box = _box(study)
    weights = final.weights or None
    criteria = ["geometric_mean", "mean", "minimum", *(["weights"] if weights else [])]
    known = {criterion for row in rows for criterion in row.picks}
    summary = summarize(
        rows,
        study.tasks,
        reference,
        [criterion for criterion in criteria if criterion in known],
        choose_by=final.choose_by,
        weights=weights,
        box=box,
        resamples=final.bootstrap,
        budget=study.evaluations,
    )
    summary["methods"] = {
        name: {"summary": study.methods[name].summary, **found}
        for name, found in summary["methods"].items()
    }
    summary["versions"] = versions(_PACKAGES)
    ends = [RunFolder(run.folder).results for run in planned]
    ended = max(end.stat().st_mtime for end in ends if end.is_file())
    summary["date"] = date.fromtimestamp(ended).isoformat()
    names = [task.name for task in study.tasks]
    page, data, table = (study.folder / name for name in ("compare.md", "compare.json", "runs.csv"))
    try:
        _write_csv(table, tidy_rows(rows, names, weights, box))
        data.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        page.write_text(summary_table(summary), encoding="utf-8")
        figures = draw_comparison(summary, study.folder / "figures")
    except OSError as error:
        raise RunError(
            f"cannot write the results of the comparison: {error}. The runs are kept; make room, "
            "then give the same command again"
        ) from error
    return [page, data, table, *figures]


def _box(study: Study) -> Box | None:
    """Where hypervolume is measured; None where a task's range is not finite."""
    try:
        return Box.of(study.tasks)
    except ConfigError:
        return None


def _write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
