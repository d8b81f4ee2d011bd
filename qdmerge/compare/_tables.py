"""The comparison as Markdown, and every run as lines of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdmerge.compare._data import RunRow, over_tasks
from qdmerge.compare._pareto import Box, hypervolume, pareto_front
from qdmerge.compare._sets import SET

_NAMES = {
    "mean": "mean",
    "geometric_mean": "geometric mean",
    "minimum": "minimum",
    "weights": "weighted mean",
    "hypervolume": "hypervolume",
}


def summary_table(summary: Mapping[str, Any]) -> str:
    """The comparison as a Markdown page: picks, sets, pairs, evaluations to reach, failures, notes.

    Args:
        summary: Of :func:`summarize`.
    """
    lines = [f"# Comparison with {summary['reference']}", ""]
    for criterion in summary["criteria"]:
        lines += [f"## Chosen by {_NAMES[criterion]}: test scores over the tasks (95 % CI)", ""]
        lines += [*_picks(summary, criterion), ""]
    if any(method["set"] for method in summary["methods"].values()):
        lines += ["## Sets, on the selection split", "", *_sets(summary), ""]
    for criterion in (*summary["criteria"], SET):
        rows = [row for row in summary["paired"] if row["criterion"] == criterion]
        if rows:
            of = "hypervolume" if criterion == SET else f"chosen by {_NAMES[criterion]}"
            lines += [f"## Difference from {summary['reference']}, in pairs: {of}", ""]
            lines += [*_pairs(rows), ""]
    if summary["reach"]:
        lines += ["## Evaluations to reach another method's final level", ""]
        lines += [*_reach(summary), ""]
    if summary["failed"]:
        lines += ["## Failed runs", "", "They are in none of the numbers above.", ""]
        lines += [*map(_failure, summary["failed"]), ""]
    lines += ["## How to read this", "", *(f"- {note}" for note in summary["notes"])]
    return "\n".join([*lines, ""])


def tidy_rows(
    rows: Sequence[RunRow],
    tasks: Sequence[str],
    weights: Mapping[str, float] | None = None,
    box: Box | None = None,
) -> list[dict[str, Any]]:
    """One flat record per run and criterion, all with the same keys; a failed run has one.

    Args:
        rows: All runs.
        tasks: Names of the K tasks, in the order of the score columns.
        weights: Task to weight, for the weighted mean.
        box: Where hypervolume is measured; None for no hypervolume.
    """
    ways = ["mean", "geometric_mean", "minimum", *(["weights"] if weights else [])]
    numbers = [float((weights or {}).get(task, 0)) for task in tasks]
    found = []
    for row in rows:
        about = {
            "method": row.method,
            "seed": row.seed,
            "block": row.block,
            "status": row.status,
            "cause": row.cause,
            "evaluations": row.evaluations,
            "seconds": row.seconds,
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
                line |= {f"test_{way}": float(over_tasks(way, test, numbers)) for way in ways}
            found.append(line)
    keys = dict.fromkeys(key for line in found for key in line)
    return [{key: line.get(key) for key in keys} for line in found]


def _picks(summary: Mapping[str, Any], criterion: str) -> list[str]:
    trained = any(method["training"] for method in summary["methods"].values())
    heads = [*(_NAMES[way] for way in summary["measures"]), "runs", "evaluations", "seconds"]
    rows = [["method", *heads, *(["training"] if trained else [])]]
    for name, method in _ranked(summary, criterion):
        pick = method["picks"].get(criterion) or {}
        cells = [name, *(_estimate(pick.get(way)) for way in summary["measures"])]
        cells += [_runs(method), _whole(method["evaluations"]), _whole(method["seconds"])]
        if trained:
            costs = method["training"] or {}
            cells.append(", ".join(f"{key} {_whole(value)}" for key, value in costs.items()))
        rows.append([_bold(cell) for cell in cells] if name == summary["reference"] else cells)
    return _table(rows)


def _ranked(summary: Mapping[str, Any], criterion: str) -> list[tuple[str, Any]]:
    """The methods, best first by what the criterion wants; those without a pick last."""
    way = criterion if criterion in summary["measures"] else summary["measures"][0]

    def value(item: tuple[str, Any]) -> float:
        told = (item[1]["picks"].get(criterion) or {}).get(way)
        return told["value"] if told else -np.inf

    return sorted(summary["methods"].items(), key=value, reverse=True)


def _sets(summary: Mapping[str, Any]) -> list[str]:
    rows = [["method", "hypervolume (95 % CI)", "models", "on the Pareto front"]]
    told = [(name, method["set"]) for name, method in summary["methods"].items() if method["set"]]

    def worth(item: tuple[str, Any]) -> float:
        return item[1]["hypervolume"]["value"] if item[1]["hypervolume"] else 0.0

    for name, one in sorted(told, key=worth, reverse=True):
        cells = [name, _estimate(one["hypervolume"]), _whole(one["points"]), _whole(one["front"])]
        rows.append([_bold(cell) for cell in cells] if name == summary["reference"] else cells)
    return _table(rows)


def _pairs(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    ways = list(dict.fromkeys(row["measure"] for row in rows))
    table = [["method", "pairs", *(title for way in ways for title in (_NAMES[way], "p", "r"))]]
    for name in dict.fromkeys(row["method"] for row in rows):
        own = {row["measure"]: row for row in rows if row["method"] == name}
        cells = [name, str(own[ways[0]]["pairs"])]
        for way in ways:
            cells += _difference(own[way])
        table.append(cells)
    return _table(table)


def _difference(row: Mapping[str, Any]) -> list[str]:
    if not row["pairs"]:
        return ["\u2013"] * 3
    ends = "" if row["ci95"] is None else " ({:+.3f} to {:+.3f})".format(*row["ci95"])
    star = " *" if row["significant"] else ""
    p = f"{row['p_holm']:.2g}{star}" if row["can_be_significant"] else "too few pairs"
    return [f"{row['difference']:+.3f}{ends}", p, f"{row['rank_biserial']:+.2f}"]


def _reach(summary: Mapping[str, Any]) -> list[str]:
    reference = summary["reference"]
    told = {(row["method"], row["target"]): row for row in summary["reach"]}
    rows = [["method", f"{reference} reaches its level after", f"it reaches {reference}'s after"]]
    for name in summary["methods"]:
        pair = [told.get((reference, name)), told.get((name, reference))]
        if any(pair):
            rows.append([name, *map(_reached, pair)])
    return _table(rows)


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


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
