"""Estimates with intervals, paired tests, and resampling of items."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, log2
from typing import Any

import numpy as np

from qdmerge.compare._rows import RunRow, list_test_beds
from qdmerge.errors import RunError

LEVEL = 0.05
"""Corrected p-values up to here count as significant; intervals have 95 %."""

FLIPS = 9999
"""Sign flips to try: all of up to 13 pairs, random ones of more."""


@dataclass(frozen=True)
class Estimate:
    """A mean over runs. Its interval covers "seeds and items", "seeds", "items", or "nothing"."""

    value: float
    ci95: tuple[float, float] | None
    covers: str


def estimate(
    values: np.ndarray,
    replicates: np.ndarray | None,
    test_beds: Sequence[Hashable],
    fewest_items: int = 0,
) -> Estimate:
    """Return the mean of ``(N,)`` values, one per run, with an interval over seeds and items."""
    # Two variances add up, with degrees of freedom by Satterthwaite (1946, Biometrics Bulletin 2):
    # of the mean under resampled items, which all runs share, and of the runs within their test
    # beds. Interactions of seed and item count twice: rather too wide than too narrow.
    mean = float(np.mean(values))
    parts: dict[str, tuple[float, int]] = {}  # variance and its degrees of freedom
    residuals = np.array(values, dtype=np.float64)
    names = np.array([list(dict.fromkeys(test_beds)).index(test_bed) for test_bed in test_beds])
    for test_bed in np.unique(names):
        residuals[names == test_bed] -= residuals[names == test_bed].mean()
    freedom = len(values) - len(np.unique(names))
    if freedom:
        parts["seeds"] = (float(residuals @ residuals) / freedom / len(values), freedom)
    if replicates is not None and fewest_items > 1:
        parts["items"] = (float(replicates.mean(axis=1).var(ddof=1)), fewest_items - 1)
    if not parts:
        return Estimate(mean, None, "nothing")
    variance = sum(part for part, _ in parts.values())
    half = 0.0
    if variance > 0:
        from scipy.stats import t  # takes a second to import

        degrees = variance**2 / sum(part**2 / df for part, df in parts.values())
        half = float(t.ppf(1 - LEVEL / 2, degrees)) * variance**0.5
    return Estimate(mean, (mean - half, mean + half), " and ".join(parts))


def pair_differences(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return ``own - other``, rounded where the largest value has its 13th digit: means of the same
    scores in another order tie, and so do gains and losses of the same size.
    """
    largest = max(np.abs(own).max(initial=0), np.abs(other).max(initial=0))
    digits = min(int(12 - np.floor(np.log10(largest))), 300) if largest > 0 else 0
    return np.round(own - other, digits)


def sign_flip_test(differences: np.ndarray, seed: int) -> float:
    """Return the two-sided p-value of ``(n,)`` differences being symmetric about 0; exact up to 13
    pairs. The statistic is the mean (Fisher 1935, The Design of Experiments, section 21).
    """
    if len(differences) < 2 or not np.any(differences):
        return 1.0
    from scipy.stats import permutation_test

    # Statistics that are equal but for rounding are made equal.
    digits = int(12 - np.floor(np.log10(np.abs(differences).max())))

    def mean(sample: np.ndarray, axis: int) -> np.ndarray:
        return np.round(sample.mean(axis=axis), digits)

    tested = permutation_test(
        (differences,),
        mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=FLIPS,
        rng=np.random.default_rng(seed),
    )
    return float(min(tested.pvalue, 1.0))


def smallest_p(pairs: int) -> float:
    """Return the smallest two-sided p-value that a sign-flip test of so many pairs can have."""
    return max(2.0 ** (1 - pairs), 2.0 / (FLIPS + 1))


def pairs_needed(methods: int) -> int:
    """Return the fewest pairs with which so many methods can all differ significantly."""
    return ceil(1 + log2(methods / LEVEL))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979, Scand. J. Statistics 6(2))."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, at in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, (len(p_values) - rank) * p_values[at])
        corrected[at] = min(highest, 1.0)
    return corrected


def rank_biserial(differences: np.ndarray) -> float:
    """Return the matched-pairs rank-biserial correlation (Kerby 2014, Comprehensive Psychology 3),
    from 1, every pair gains, to -1, every pair loses. Pairs without a difference do not count.
    """
    changed = differences[differences != 0]
    if not len(changed):
        return 0.0
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(changed))
    return float(ranks @ np.sign(changed) / ranks.sum())


@dataclass(frozen=True, eq=False)
class RunValues:
    """One number per run that has one, and its ``(R,)`` values under resampled items."""

    values: Mapping[RunRow, float]
    replicates: Mapping[RunRow, np.ndarray] = field(default_factory=dict)
    fewest_items: int = 0


def estimated(
    runs: Sequence[RunRow], numbers: RunValues, ends: Sequence[float]
) -> dict[str, Any] | None:
    """Return the mean over runs with its interval, cut to the range of scores; None of none."""
    known = [row for row in runs if row in numbers.values]
    if not known:
        return None
    replicates = None
    if all(row in numbers.replicates for row in known):
        replicates = np.stack([numbers.replicates[row] for row in known], axis=1)
    values = [numbers.values[row] for row in known]
    test_beds = [row.test_bed for row in known]
    found = estimate(np.array(values), replicates, test_beds, numbers.fewest_items)
    ci95 = found.ci95 and [float(end) for end in np.clip(found.ci95, ends[0], ends[1])]
    return {"value": found.value, "ci95": ci95, "covers": found.covers, "runs": values}


def median(values: Sequence[float]) -> float | None:
    """Return the median; None of nothing."""
    return float(np.median(values)) if values else None


def paired_runs(own: Sequence[RunRow], other: Sequence[RunRow]) -> list[tuple[RunRow, RunRow]]:
    """Pair runs of the same test bed and seed; a run without a seed pairs with every seed."""
    return [
        (one, two)
        for one in own
        for two in other
        if one.test_bed == two.test_bed and (one.seed == two.seed or None in (one.seed, two.seed))
    ]


def compare_pairs(
    methods: Mapping[str, Sequence[RunRow]], reference: str, numbers: RunValues, seed: int
) -> list[dict[str, Any]]:
    """Compare each method with the reference; p-values are Holm-corrected over the methods.
    ``smallest_p_holm`` is what ``p_holm`` would be if every method won or lost every pair.
    """
    found = [
        _against(name, runs, methods[reference], numbers, seed)
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
    name: str, runs: Sequence[RunRow], reference: Sequence[RunRow], numbers: RunValues, seed: int
) -> dict[str, Any]:
    known = numbers.values
    pairs = paired_runs([r for r in runs if r in known], [r for r in reference if r in known])
    if not pairs:
        return {"method": name, "pairs": 0}
    differences = pair_differences(*np.array([[known[one], known[two]] for one, two in pairs]).T)
    replicates = None
    again = numbers.replicates
    if all(one in again and two in again for one, two in pairs):
        replicates = np.stack([again[one] - again[two] for one, two in pairs], axis=1)
    test_beds = [one.test_bed for one, _ in pairs]
    difference = estimate(differences, replicates, test_beds, numbers.fewest_items)
    return {
        "method": name,
        "pairs": len(pairs),
        "difference": difference.value,
        "ci95": None if difference.ci95 is None else list(difference.ci95),
        "covers": difference.covers,
        "p": sign_flip_test(differences, seed),
        "rank_biserial": rank_biserial(differences),
    }


_CHUNK = 256


def resampled_scores(
    rows: Sequence[RunRow], criterion: str, tasks: Sequence[str], resamples: int, seed: int
) -> list[np.ndarray | None]:
    """Return per row its pick's ``(R, K)`` test scores under resampled items; None if it has no
    such pick or no items of a task. Rows with the same items share the draws of each replicate.
    """
    # The draws depend only on seed, test bed, task and number of items: another method changes no
    # interval, and items that are easy or hard for all do not blur differences.
    found: list[np.ndarray | None] = [None] * len(rows)
    first: dict[str, int] = {}  # items to the number of the first test bed with them
    for number, test_bed in enumerate(list_test_beds(rows)):
        complete = [
            (at, [np.asarray(items[task], dtype=np.float64) for task in tasks])
            for at, row in enumerate(rows)
            if row.test_bed == test_bed
            and (items := _items(row, criterion))
            and all(items.get(task) is not None for task in tasks)
        ]
        if not complete:
            continue
        draw = first.setdefault(rows[complete[0][0]].data or test_bed, number)
        scores = []
        for column, task in enumerate(tasks):
            lengths = {len(items[column]) for _, items in complete}
            if len(lengths) > 1:
                counts = ", ".join(map(str, sorted(lengths)))
                raise RunError(
                    f"runs of '{test_bed}' have {counts} test items of '{task}': their test splits "
                    "differ; compare runs of one configuration"
                )
            rng = np.random.default_rng([seed, draw, column])
            scores.append(_means([items[column] for _, items in complete], resamples, rng))
        for place, (at, _) in enumerate(complete):
            found[at] = np.stack([columns[:, place] for columns in scores], axis=-1)
    return found


def fewest_items(rows: Sequence[RunRow], criterion: str) -> int:
    """Return the number of items of the smallest task of these picks; 0 without items."""
    lengths = [
        len(items) for row in rows for items in _items(row, criterion).values() if items is not None
    ]
    return min(lengths, default=0)


def _items(row: RunRow, criterion: str) -> dict[str, np.ndarray | None]:
    return dict(row.picks[criterion].items) if criterion in row.picks else {}


def _means(items: Sequence[np.ndarray], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``(R, runs)`` means over resampled items, with multinomial counts."""
    table = np.stack(items, axis=1)
    n = len(table)
    parts = []
    for start in range(0, resamples, _CHUNK):  # to bound memory
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(_CHUNK, resamples - start))
        parts.append(counts @ table / n)
    return np.concatenate(parts)
