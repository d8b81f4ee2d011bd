"""The tables of a comparison, and its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from qdmerge.compare._fronts import SET, Box, hypervolume, pareto_front
from qdmerge.compare._plan import PlannedRun
from qdmerge.compare._rows import RunRow, read_rows
from qdmerge.compare._study import Study
from qdmerge.compare._summary import COSTS, ranked, summarize
from qdmerge.criteria import CRITERIA, over_tasks
from qdmerge.errors import RunError
from qdmerge.reports._tables import markdown_table
from qdmerge.runs import RunFolder
from qdmerge.runs._folder import versions
from qdmerge.storage import write_json, write_whole

LABELS = {**CRITERIA, "hypervolume": "hypervolume"}

_POINTER = (
    '- More: "What to hold against a table" on the documentation page "How to compare methods".'
)


def summary_table(summary: Mapping[str, Any]) -> str:
    """Return a summary of :func:`summarize` as a Markdown page."""
    lines = [f"# Comparison with {summary['reference']}", ""]
    for criterion in summary["criteria"]:
        lines += [f"## Chosen by {LABELS[criterion]}: test scores over the tasks (95 % CI)", ""]
        lines += [*_picks(summary, criterion), ""]
    if any(method["set"] for method in summary["methods"].values()):
        lines += ["## Sets, on the selection split", "", *_sets(summary), ""]
    for criterion in (*summary["criteria"], SET):
        rows = [row for row in summary["paired"] if row["criterion"] == criterion]
        if rows:
            of = "hypervolume" if criterion == SET else f"chosen by {LABELS[criterion]}"
            lines += [f"## Difference from {summary['reference']}, in pairs: {of}", ""]
            lines += [*_pairs(rows), ""]
    if summary["reach"]:
        lines += ["## Evaluations to reach another method's final level", ""]
        lines += [*_reach(summary), ""]
    if summary["failed"]:
        lines += ["## Failed runs", "", "They are part of no number above.", ""]
        lines += [*map(_failure, summary["failed"]), ""]
    lines += ["## How to read this", "", *(f"- {caveat}" for caveat in summary["notes"]), _POINTER]
    return "\n".join([*lines, ""])


def tidy_rows(
    rows: Sequence[RunRow],
    tasks: Sequence[str],
    weights: Mapping[str, float] | None = None,
    box: Box | None = None,
) -> list[dict[str, Any]]:
    """Return a flat record per run and criterion, all with the same keys; a failed run has one."""
    numbers = ["mean", "geometric_mean", "minimum", *(["weights"] if weights else [])]
    task_weights = [float((weights or {}).get(task, 0)) for task in tasks]
    found = []
    for row in rows:
        about = {
            "method": row.method,
            "seed": row.seed,
            "block": row.test_bed,
            "status": row.status,
            "cause": row.cause,
            "evaluations": row.evaluations,
            **{cost: getattr(row, cost) for cost in COSTS},
            **{f"training_{key}": value for key, value in (row.training or {}).items()},
        }
        if row.points is not None:
            about["points"] = len(row.points)
            about["front"] = len(pareto_front(row.points))
            if box is not None:
                about["hypervolume"] = hypervolume(row.points, box)
        for criterion, pick in row.picks.items() or [("", None)]:
            line = {**about, "criterion": criterion}
            if pick is not None:
                line |= {"pick": pick.name, "solution": pick.solution}
                for split in ("validation", "selection", "test"):
                    scores = getattr(pick, split)
                    line |= {f"{split}:{task}": scores[task] for task in tasks}
                test = np.array([pick.test[task] for task in tasks])
                line |= {
                    f"test_{number}": float(over_tasks(number, test, task_weights))
                    for number in numbers
                }
            found.append(line)
    keys = dict.fromkeys(key for line in found for key in line)
    return [{key: line.get(key) for key in keys} for line in found]


_COSTS = {
    "evaluations": "evaluations",
    "passes": "gradient passes",
    "evaluating": "s evaluating",
    "guiding": "s guiding",
    "preparing": "s preparing",
}
"""Costs that the tables show, with their titles."""


def _picks(summary: Mapping[str, Any], criterion: str) -> list[str]:
    rows = [
        ["method", *(LABELS[number] for number in summary["measures"]), "runs", *_COSTS.values()]
    ]
    for name in ranked(summary, criterion):
        method = summary["methods"][name]
        pick = method["picks"].get(criterion) or {}
        cells = [name, *(_estimate(pick.get(number)) for number in summary["measures"])]
        cells += [_runs(method), *(_whole(method[cost]) for cost in _COSTS)]
        rows.append([_bold(cell) for cell in cells] if name == summary["reference"] else cells)
    return markdown_table(rows)


def _sets(summary: Mapping[str, Any]) -> list[str]:
    rows = [["method", "hypervolume (95 % CI)", "models", "on the Pareto front"]]
    known = [(name, method["set"]) for name, method in summary["methods"].items() if method["set"]]

    def worth(item: tuple[str, Any]) -> float:
        return item[1]["hypervolume"]["value"] if item[1]["hypervolume"] else 0.0

    for name, one in sorted(known, key=worth, reverse=True):
        cells = [name, _estimate(one["hypervolume"]), _whole(one["points"]), _whole(one["front"])]
        rows.append([_bold(cell) for cell in cells] if name == summary["reference"] else cells)
    return markdown_table(rows)


def _pairs(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    numbers = list(dict.fromkeys(row["measure"] for row in rows))
    table = [
        ["method", "pairs", *(title for number in numbers for title in (LABELS[number], "p", "r"))]
    ]
    for name in dict.fromkeys(row["method"] for row in rows):
        own = {row["measure"]: row for row in rows if row["method"] == name}
        cells = [name, str(own[numbers[0]]["pairs"])]
        for number in numbers:
            cells += _difference(own[number])
        table.append(cells)
    return markdown_table(table)


def _difference(row: Mapping[str, Any]) -> list[str]:
    if not row["pairs"]:
        return ["\u2013"] * 3
    ends = "" if row["ci95"] is None else " ({:+.3f} to {:+.3f})".format(*row["ci95"])
    star = " *" if row["significant"] else ""
    p = f"{row['p_holm']:.2g}{star}" if row["can_be_significant"] else "too few pairs"
    return [f"{row['difference']:+.3f}{ends}", p, f"{row['rank_biserial']:+.2f}"]


def _reach(summary: Mapping[str, Any]) -> list[str]:
    reference = summary["reference"]
    known = {(row["method"], row["target"]): row for row in summary["reach"]}
    rows = [["method", f"{reference} reaches its level after", f"it reaches {reference}'s after"]]
    for name in summary["methods"]:
        pair = [known.get((reference, name)), known.get((name, reference))]
        if any(pair):
            rows.append([name, *map(_reached, pair)])
    return markdown_table(rows)


def _reached(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "\u2013"
    count = f"{row['reached']} of {row['runs']} runs"
    if row["median"] is None:
        return f"{'never in most' if row['reached'] else 'never'} ({count})"
    return f"{row['median']:g} ({count})"


def _failure(row: Mapping[str, Any]) -> str:
    seed = "" if row["seed"] is None else f", seed {row['seed']}"
    return f"- {row['method']}{seed}, {row['block']}: {' '.join(row['cause'].split())}"


def _runs(method: Mapping[str, Any]) -> str:
    total = method["runs"] + method["failed"]
    return f"{method['runs']} of {total}" if method["failed"] else str(total)


def _estimate(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "\u2013"
    ends = "" if one["ci95"] is None else " ({:.3f} to {:.3f})".format(*one["ci95"])
    return f"{one['value']:.3f}{ends}"


def _whole(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _bold(cell: str) -> str:
    return f"**{cell}**" if cell else ""


_PACKAGES = ("scipy", "moocore", "cma", "pymoo")
"""Packages that the task_weights depend on, in addition to those of a run."""


def write_comparison(study: Study, planned: Sequence[PlannedRun], reference: str) -> list[Path]:
    """Write ``compare.md``, ``compare.json``, ``runs.csv`` and figures into a study's folder.

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
    from qdmerge.compare._figures import draw_comparison

    rows = read_rows(planned, study.failures)
    if not any(row.status == "ok" for row in rows):
        first, *others = dict.fromkeys(row.cause for row in rows)
        more = f" ({len(others)} other causes)" if others else ""
        raise RunError(f"every run failed: {first}{more}. Fix the cause, then repeat the command")
    final = study.config.final
    box = Box.of(study.tasks)
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
        seconds=study.seconds,
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
        write_json(data, summary)
        write_whole(page, summary_table(summary))
        figures = draw_comparison(summary, study.folder / "figures")
    except OSError as error:
        raise RunError(
            f"cannot write the results of the comparison: {error}. The runs are kept; make room, "
            "then repeat the command"
        ) from error
    return [page, data, table, *figures]


def _write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    write_whole(path, file.getvalue())
