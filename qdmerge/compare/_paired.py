"""Differences between methods and a reference, in pairs of the same block and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdmerge.compare._data import RunRow
from qdmerge.compare._measured import Measured
from qdmerge.compare._statistics import (
    LEVEL,
    estimate,
    holm,
    pair_differences,
    rank_biserial,
    sign_flip_test,
    smallest_p,
)


def paired_runs(own: Sequence[RunRow], other: Sequence[RunRow]) -> list[tuple[RunRow, RunRow]]:
    """Pairs of the same block and seed; a run without a seed is paired with every seed."""
    return [
        (one, two)
        for one in own
        for two in other
        if one.block == two.block and (one.seed == two.seed or None in (one.seed, two.seed))
    ]


def compare_pairs(
    methods: Mapping[str, Sequence[RunRow]], reference: str, measured: Measured, seed: int
) -> list[dict[str, Any]]:
    """Every method against the reference; p-values are Holm-corrected over the methods.

    Args:
        methods: Method to its runs, the reference among them.
        reference: Name of the reference.
        measured: What is compared; higher is better.
        seed: Seed of random sign flips.

    Returns:
        Per method other than the reference: ``method``, ``pairs`` (their number) and, where there
        are pairs, ``difference`` (method less reference, mean over pairs), ``ci95``, ``covers``,
        ``p``, ``p_holm``, ``smallest_p_holm`` (what ``p_holm`` would be if every method won or
        lost every pair), ``can_be_significant``, ``significant``, and ``rank_biserial``.
    """
    found = [
        _against(name, runs, methods[reference], measured, seed)
        for name, runs in methods.items()
        if name != reference
    ]
    family = [row for row in found if row["pairs"]]
    corrected = holm([row["p"] for row in family])
    smallest = holm([smallest_p(row["pairs"]) for row in family])
    for row, p, least in zip(family, corrected, smallest, strict=True):
        row["p_holm"] = p
        row["smallest_p_holm"] = least
        row["can_be_significant"] = least <= LEVEL
        row["significant"] = p <= LEVEL
    return found


def _against(
    name: str,
    runs: Sequence[RunRow],
    reference: Sequence[RunRow],
    measured: Measured,
    seed: int,
) -> dict[str, Any]:
    known = measured.values
    pairs = paired_runs([r for r in runs if r in known], [r for r in reference if r in known])
    if not pairs:
        return {"method": name, "pairs": 0}
    differences = pair_differences(*np.array([[known[one], known[two]] for one, two in pairs]).T)
    replicates = None
    again = measured.replicates
    if all(one in again and two in again for one, two in pairs):
        replicates = np.stack([again[one] - again[two] for one, two in pairs], axis=1)
    blocks = [one.block for one, _ in pairs]
    difference = estimate(differences, replicates, blocks, measured.fewest_items)
    return {
        "method": name,
        "pairs": len(pairs),
        "difference": difference.value,
        "ci95": None if difference.ci95 is None else list(difference.ci95),
        "covers": difference.covers,
        "p": sign_flip_test(differences, seed),
        "rank_biserial": rank_biserial(differences),
    }
