"""What a reader of the tables must know, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qdmerge.compare._statistics import FLIPS, pairs_needed


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Sentences on what the intervals cover, what the tests can show, and what is missing.

    Args:
        summary: Of :func:`summarize`, complete but for the notes.
    """
    return [
        *_intervals(summary),
        *_widths(summary),
        *_budget(summary),
        *_incomplete(summary),
        *_tests(summary),
        *_sets(summary),
        *_reach(summary),
    ]


def _intervals(summary: Mapping[str, Any]) -> list[str]:
    covered: dict[str, list[str]] = {}
    for name, method in summary["methods"].items():
        told = [one for pick in method["picks"].values() for one in pick.values() if one]
        if told:
            covered.setdefault(told[0]["covers"], []).append(name)
    found = []
    if set(covered) - {"nothing"}:
        found.append(
            "Test scores are means over the runs of a method, with 95 % intervals over seeds "
            "(Student's t) and test items (bootstrap; all methods with the same resampled items)."
        )
        found.append(
            "All seeds of a test bed share its base, experts and test items: the intervals say "
            "nothing about other experts or other test beds."
        )
    for covers, names in covered.items():
        if covers != "seeds and items":
            found.append(f"Intervals {_COVERS[covers]}: {', '.join(names)}.")
    return found


_COVERS = {
    "items": "over test items only, since there is one run per test bed",
    "seeds": "over seeds only, since the items' scores are not known",
    "nothing": "are missing, since there is one run per test bed and no items' scores are known",
}


def _widths(summary: Mapping[str, Any]) -> list[str]:
    told = list(summary["paired"])
    for method in summary["methods"].values():
        told += [one for pick in method["picks"].values() for one in pick.values() if one]
        told += [method["set"]["hypervolume"] or {}] if method["set"] else []
    ends = [one["ci95"] for one in told if one.get("ci95")]
    if all(high - low > 1e-9 for low, high in ends):
        return []
    return [
        "An interval without width means that all runs have the same value, not that it is certain."
    ]


def _budget(summary: Mapping[str, Any]) -> list[str]:
    budget = summary["budget"]
    over = {
        name: method["most_evaluations"]
        for name, method in summary["methods"].items()
        if None not in (budget, method["most_evaluations"]) and method["most_evaluations"] > budget
    }
    if not over:
        return []
    named = ", ".join(f"{name} ({number:g})" for name, number in over.items())
    return [f"The budget is {_count(budget, 'evaluation')}; more were spent by: {named}."]


def _incomplete(summary: Mapping[str, Any]) -> list[str]:
    names = [name for name, method in summary["methods"].items() if method["failed"]]
    found = []
    if names:
        found.append(
            "Means are over the runs that came to their end, and do not compare where the failed "
            f"ones were on harder test beds; pairs do: {', '.join(names)}."
        )
    for run in summary["dropped"]:
        seed = "" if run["seed"] is None else f", seed {run['seed']}"
        causes = "; ".join(f"{name} ({cause})" for name, cause in run["candidates"].items())
        found.append(
            f"{run['method']}{seed} on {run['block']} was picked without candidates that could not "
            f"be evaluated: {causes}."
        )
    return found


def _tests(summary: Mapping[str, Any]) -> list[str]:
    rows = [row for row in summary["paired"] if row["pairs"]]
    alone = dict.fromkeys(row["method"] for row in summary["paired"] if not row["pairs"])
    missing = [f"Without a pair to compare: {', '.join(alone)}."] if alone else []
    if not rows:
        return missing
    exact = 2 ** max(row["pairs"] for row in rows) <= FLIPS
    flips = "all flips" if exact else f"all flips or {FLIPS} random ones"
    found = [
        f"Paired: difference from {summary['reference']} in the same test bed and seed, sign-flip "
        f"permutation test ({flips}; p Holm-corrected over the methods; * means p <= .05), and "
        "matched-pairs rank-biserial correlation r (1: better in every pair that differs, -1: "
        "worse in every one). A method without seeds is paired with every seed of the other. The "
        "interval of a difference is for that one comparison, not corrected for the number of "
        "methods."
    ]
    hopeless = [row for row in rows if not row["can_be_significant"]]
    if len(hopeless) == len(rows):
        pairs = max(row["pairs"] for row in rows)
        methods = len({row["method"] for row in rows})
        found.append(
            f"With {_count(pairs, 'pair')} and {_count(methods, 'method')} compared, nothing can "
            "be significant: the smallest corrected p that the test can give is "
            f"{min(row['smallest_p_holm'] for row in rows):.2g}. So the lack of stars means "
            f"nothing; that would take at least {_count(pairs_needed(methods), 'pair')} each."
        )
    elif hopeless:
        few = {row["method"]: row["pairs"] for row in hopeless}
        named = ", ".join(f"{name} ({_count(pairs, 'pair')})" for name, pairs in few.items())
        found.append(f"Too few pairs for anything to be significant: {named}.")
    if len(hopeless) < len(rows) and not any(row["significant"] for row in rows):
        found.append("No difference is significant.")
    return [*found, *missing]


def _sets(summary: Mapping[str, Any]) -> list[str]:
    known = [method["set"] for method in summary["methods"].values() if method["set"]]
    if not known:
        return []
    found = [
        "Sets are scored on the selection split, which no search saw. A larger set has more "
        "chances to look good there."
    ]
    if any(one["hypervolume"] for one in known):
        found.append(
            "Hypervolume is the share of the box from "
            f"{_point(summary['box']['low'])} to {_point(summary['box']['high'])} that the set "
            "dominates; its intervals are over seeds only."
        )
    else:
        found.append("No hypervolume: the range of a task's scores is not finite.")
    return found


def _reach(summary: Mapping[str, Any]) -> list[str]:
    if not summary["reach"]:
        return []
    return [
        "Evaluations to reach a level: after how many the best model by validation first has it on "
        f"the selection split, by {summary['choose_by'].replace('_', ' ')}; the level is the "
        "median of the other method's final values. A run that never has it counts as more than "
        "any number."
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _point(values: Sequence[float]) -> str:
    if len(set(values)) == 1:
        return f"{values[0]:g} on every task"
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
