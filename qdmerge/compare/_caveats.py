"""What to hold against the tables: a short line each; the documentation explains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qdmerge.compare._statistics import FLIPS, pairs_needed
from qdmerge.reports._tables import counted

_COVERS = {
    "seeds and items": "cover seeds and test items of these test beds, not other experts",
    "items": "over test items only (one run per test bed)",
    "seeds": "over seeds only (no scores of single items)",
    "nothing": "are missing (one run per test bed, no scores of single items)",
}


def caveats(summary: Mapping[str, Any]) -> list[str]:
    """List what the intervals of a summary cover, what its tests can show, and what is missing."""
    parts = (_intervals, _spending, _incomplete, _tests, _sets)
    return [line for part in parts for line in part(summary)]


def _intervals(summary: Mapping[str, Any]) -> Iterator[str]:
    covered: dict[str, list[str]] = {}
    known = list(summary["paired"])
    for name, method in summary["methods"].items():
        own = [one for pick in method["picks"].values() for one in pick.values() if one]
        if own:
            covered.setdefault(own[0]["covers"], []).append(name)
        known += own
        known += [method["set"]["hypervolume"] or {}] if method["set"] else []
    for covers, names in covered.items():
        yield f"Intervals {_COVERS[covers]}: {', '.join(names)}."
    if any(high - low <= 1e-9 for low, high in (one["ci95"] for one in known if one.get("ci95"))):
        yield "An interval without width: all runs are equal; not that it is certain."


def _spending(summary: Mapping[str, Any]) -> Iterator[str]:
    budget = summary["budget"]
    spent = {name: method["most_evaluations"] for name, method in summary["methods"].items()}
    over = [
        f"{name} ({n:g})" for name, n in spent.items() if None not in (n, budget) and n > budget
    ]
    if over:
        allowed = counted(budget, "evaluation")
        yield f"The budget is {allowed}; more were spent by: {', '.join(over)}."
    limit = summary["budget_seconds"]
    taken = {name: method["most_seconds"] for name, method in summary["methods"].items()}
    late = [f"{name} ({s:.3g})" for name, s in taken.items() if limit and s and s > 1.1 * limit]
    if late:
        over_by = "over a tenth more were spent by"
        yield f"The budget is {limit:g} seconds; {over_by}: {', '.join(late)}."


def _incomplete(summary: Mapping[str, Any]) -> Iterator[str]:
    if names := [name for name, method in summary["methods"].items() if method["failed"]]:
        yield f"Means of methods with failed runs do not compare, pairs do: {', '.join(names)}."
    for run in summary["dropped"]:
        seed = "" if run["seed"] is None else f", seed {run['seed']}"
        causes = "; ".join(f"{name} ({cause})" for name, cause in run["candidates"].items())
        yield (
            f"{run['method']}{seed} on {run['block']}: the choice lacks candidates that could not "
            f"be evaluated: {causes}."
        )


def _tests(summary: Mapping[str, Any]) -> Iterator[str]:
    rows = [row for row in summary["paired"] if row["pairs"]]
    alone = dict.fromkeys(row["method"] for row in summary["paired"] if not row["pairs"])
    if rows:
        exact = 2 ** max(row["pairs"] for row in rows) <= FLIPS
        yield (
            f"Pairs share test bed and seed; p: sign-flip permutation test ("
            f"{'all' if exact else f'up to {FLIPS}'} flips), Holm-corrected over the methods "
            "(* p <= .05); r: matched-pairs rank-biserial correlation. Intervals are not corrected."
        )
        yield from _power(rows)
    if alone:
        yield f"Without a pair to compare: {', '.join(alone)}."


def _power(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What so few pairs can show."""
    hopeless = {row["method"]: row["pairs"] for row in rows if not row["can_be_significant"]}
    if all(not row["can_be_significant"] for row in rows):
        methods = len({row["method"] for row in rows})
        yield (
            f"With {counted(max(row['pairs'] for row in rows), 'pair')} and "
            f"{counted(methods, 'method')} compared, nothing can be significant: the smallest "
            f"corrected p is {min(row['smallest_p_holm'] for row in rows):.2g}; it takes at least "
            f"{counted(pairs_needed(methods), 'pair')} each."
        )
        return
    if hopeless:
        few = ", ".join(f"{name} ({counted(pairs, 'pair')})" for name, pairs in hopeless.items())
        yield f"Too few pairs for anything to be significant: {few}."
    if not any(row["significant"] for row in rows):
        yield "No difference is significant."


def _sets(summary: Mapping[str, Any]) -> Iterator[str]:
    known = [method["set"] for method in summary["methods"].values() if method["set"]]
    if any(one["hypervolume"] for one in known):
        low, high = (_point(summary["box"][end]) for end in ("low", "high"))
        yield (
            "Sets are scored on the selection split; hypervolume is the share of the box from "
            f"{low} to {high} that a set dominates, with intervals over seeds only."
        )
    elif known:
        yield "No hypervolume: the range of a task's scores is not finite."
    if summary["reach"]:
        yield (
            "A level is reached when the best model by validation so far has it on the selection "
            f"split, by {summary['choose_by'].replace('_', ' ')}; the level is the other method's "
            "median final value."
        )


def _point(values: Sequence[float]) -> str:
    if len(set(values)) == 1:
        return f"{values[0]:g} on every task"
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
