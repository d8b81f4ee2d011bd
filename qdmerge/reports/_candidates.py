"""The candidates of ``results.json``, in the order people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Candidate = Mapping[str, Any]

FOUND = ("aggregate", "elite")
"""Kinds of candidates that the search found; all others are references."""

_ORDER = ("base", "expert", "average", "regmean", "task_arithmetic")


def ordered(results: Mapping[str, Any]) -> list[Candidate]:
    """References (base, experts, average, task arithmetic, others), aggregates, elites."""

    def place(candidate: Candidate) -> int:
        kind = candidate["kind"]
        if kind in FOUND:
            return len(_ORDER) + 1 + FOUND.index(kind)
        return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)

    return sorted(results["candidates"], key=place)


def label(candidate: Candidate) -> str:
    """Name of a candidate, with its scale where it has one that matters."""
    scale = candidate.get("details", {}).get("scale")
    if scale is None or (scale == 1 and candidate["kind"] in FOUND):
        return str(candidate["name"])
    return f"{candidate['name']} \u00d7{scale:g}"


def group(candidate: Candidate) -> str:
    """Heading that a candidate stands under."""
    return f"{candidate['kind']}s" if candidate["kind"] in FOUND else "references"


def leading(results: Mapping[str, Any], max_rows: int) -> tuple[list[Candidate], list[str]]:
    """The candidates worth a row, and what is left out.

    Elites that are a reference themselves (an expert that is still the best of its archive) are
    left out, then the elites with the lowest means on selection; never the chosen model.

    Args:
        results: ``results.json``.
        max_rows: Number of rows; references, aggregates and the chosen model stay in any case.

    Returns:
        Candidates in order, and sentences on what is missing.
    """
    rows, chosen = ordered(results), results["chosen"]
    references = {row["solution"]: row["name"] for row in rows if row["kind"] not in FOUND}
    same = [
        row
        for row in rows
        if row["kind"] in FOUND and row["solution"] in references and row["name"] != chosen
    ]
    rows = [row for row in rows if row not in same]
    notes = []
    if same:
        pairs = (f"{row['name']} (is {references[row['solution']]})" for row in same)
        notes.append(f"Not shown: {', '.join(pairs)}.")
    elites = [row for row in rows if row["kind"] == "elite" and row["name"] != chosen]
    elites.sort(key=lambda row: row["selection_mean"])
    dropped = elites[: max(0, len(rows) - max_rows)]
    if dropped:
        notes.append(f"Not shown: the elites with the lowest selection means ({len(dropped)}).")
    return [row for row in rows if row not in dropped], notes


def essential(results: Mapping[str, Any]) -> list[Candidate]:
    """References, the paper's aggregate and the chosen model."""
    wanted = {"aggregate", results["chosen"]}
    return [row for row in ordered(results) if row["kind"] not in FOUND or row["name"] in wanted]
