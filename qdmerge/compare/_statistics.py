"""Estimates with intervals, paired tests, and resampling of items."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

import numpy as np

from qdmerge.compare._rows import RunRow, blocks_of
from qdmerge.errors import RunError

LEVEL = 0.05
"""Corrected p-values up to here count as significant; intervals are 95 % ones."""

FLIPS = 9999
"""Sign flips that are tried: all of up to 13 pairs, random ones of more."""


@dataclass(frozen=True)
class Estimate:
    """A mean over runs.

    Args:
        value: The mean.
        ci95: Lower and upper end of its 95 % interval; None where nothing can be said.
        covers: What the interval covers: "seeds and items", "seeds", "items", or "nothing".
    """

    value: float
    ci95: tuple[float, float] | None
    covers: str


def estimate(
    values: np.ndarray,
    replicates: np.ndarray | None,
    blocks: Sequence[Hashable],
    fewest_items: int = 0,
) -> Estimate:
    """Mean over runs with a 95 % interval over seeds and items.

    Two sources of error add up: what another draw of test items would change, the variance of the
    mean over ``replicates``, in which all runs share their resampled items; and what other seeds
    would change, the pooled variance of the runs within their blocks over their number. The
    interval is the mean -/+ Student's t quantile times the standard error, with Satterthwaite's
    degrees of freedom (Satterthwaite 1946, Biometrics Bulletin 2(6)). What depends on seed and item
    together is in both sources and so counts twice: the interval is rather too wide than too
    narrow.

    Args:
        values: ``(N,)``, one value per run.
        replicates: ``(R, N)``, the same under resampled items; None without items.
        blocks: The N blocks of the runs; a block counts as fixed.
        fewest_items: Number of items of the smallest task, for the degrees of freedom.
    """
    mean = float(np.mean(values))
    parts: dict[str, tuple[float, int]] = {}  # variance and its degrees of freedom
    residuals = np.array(values, dtype=np.float64)
    names = np.array([list(dict.fromkeys(blocks)).index(block) for block in blocks])
    for block in np.unique(names):
        residuals[names == block] -= residuals[names == block].mean()
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
    """``own - other``, where numbers that differ by rounding alone are equal.

    Differences are rounded where the largest value has its 13th digit: means of the same scores in
    another order tie, and so do gains and losses of the same size.

    Args:
        own: ``(n,)``.
        other: ``(n,)``.
    """
    largest = max(np.abs(own).max(initial=0), np.abs(other).max(initial=0))
    digits = min(int(12 - np.floor(np.log10(largest))), 300) if largest > 0 else 0
    return np.round(own - other, digits)


def sign_flip_test(differences: np.ndarray, seed: int) -> float:
    """Two-sided p-value that paired differences are symmetric about 0, from sign flips.

    Exact up to 13 pairs. The statistic is the mean (Fisher 1935, The Design of Experiments,
    section 21).

    Args:
        differences: ``(n,)``.
        seed: Seed of the random flips, where there are too many pairs for all of them.
    """
    if len(differences) < 2 or not np.any(differences):
        return 1.0
    from scipy.stats import permutation_test

    # A sum of terms that cancel may miss 0 by rounding, so equal statistics are made equal.
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
    """The smallest two-sided p-value that a sign-flip test of so many pairs can have."""
    return max(2.0 ** (1 - pairs), 2.0 / (FLIPS + 1))


def pairs_needed(methods: int) -> int:
    """Fewest pairs with which as many methods can all differ significantly, Holm-corrected."""
    return ceil(1 + log2(methods / LEVEL))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6(2)).

    They bound the chance of one wrong rejection among all, whatever the tests depend on.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, at in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, (len(p_values) - rank) * p_values[at])
        corrected[at] = min(highest, 1.0)
    return corrected


def rank_biserial(differences: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation, the effect size of paired differences.

    The share of the ranks of absolute differences that speaks for a gain, less the share that
    speaks for a loss (Kerby 2014, Comprehensive Psychology 3): 1 where every pair gains, -1 where
    every pair loses. Pairs without a difference do not count.

    Args:
        differences: ``(n,)``.
    """
    told = differences[differences != 0]
    if not len(told):
        return 0.0
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(told))
    return float(ranks @ np.sign(told) / ranks.sum())


@dataclass(frozen=True, eq=False)
class Measured:
    """A number of every run, and the same under resampled test items.

    Args:
        values: Run to its value; runs without one are left out.
        replicates: Run to ``(R,)``; runs without items are left out.
        fewest_items: Number of items of the smallest task.
    """

    values: Mapping[RunRow, float]
    replicates: Mapping[RunRow, np.ndarray]
    fewest_items: int = 0


def estimated(
    runs: Sequence[RunRow], measured: Measured, ends: Sequence[float]
) -> dict[str, Any] | None:
    """Mean over runs with its interval, which is cut where no score can be; None without runs."""
    known = [row for row in runs if row in measured.values]
    if not known:
        return None
    replicates = None
    if all(row in measured.replicates for row in known):
        replicates = np.stack([measured.replicates[row] for row in known], axis=1)
    values = [measured.values[row] for row in known]
    blocks = [row.block for row in known]
    found = estimate(np.array(values), replicates, blocks, measured.fewest_items)
    ci95 = found.ci95 and [float(end) for end in np.clip(found.ci95, ends[0], ends[1])]
    return {"value": found.value, "ci95": ci95, "covers": found.covers, "runs": values}


def median(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return float(np.median(values)) if values else None


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


_CHUNK = 256


def resampled_scores(
    rows: Sequence[RunRow], criterion: str, tasks: Sequence[str], resamples: int, seed: int
) -> list[np.ndarray | None]:
    """Test scores of a criterion's picks, resampling the items of each task.

    Replicate r takes the same items for every run of a block, and of all blocks that are tested on
    the same items, so what is easy or hard for all does not blur a difference between them. The
    draws depend on the seed, the number of the first block with these items, the task and the
    number of its items alone: another method changes nobody's interval.

    Args:
        rows: Runs that came to their end.
        criterion: Whose picks.
        tasks: Names of the K tasks.
        resamples: Number of replicates, R.
        seed: Seed of the resampling.

    Returns:
        Per row ``(R, K)``; None where it has no such pick or the pick lacks items of a task.

    Raises:
        RunError: Runs of one block have different numbers of items.
    """
    found: list[np.ndarray | None] = [None] * len(rows)
    first: dict[str, int] = {}  # of the blocks with these items, the number of the first one
    for number, block in enumerate(blocks_of(rows)):
        told = [
            (at, [np.asarray(items[task], dtype=np.float64) for task in tasks])
            for at, row in enumerate(rows)
            if row.block == block
            and (items := _items(row, criterion))
            and all(items.get(task) is not None for task in tasks)
        ]
        if not told:
            continue
        draw = first.setdefault(rows[told[0][0]].data or block, number)
        scores = []
        for column, task in enumerate(tasks):
            lengths = {len(items[column]) for _, items in told}
            if len(lengths) > 1:
                counts = ", ".join(map(str, sorted(lengths)))
                raise RunError(
                    f"runs of '{block}' have {counts} test items of '{task}': they were not made "
                    "with the same test split; compare runs of one configuration"
                )
            rng = np.random.default_rng([seed, draw, column])
            scores.append(_means([items[column] for _, items in told], resamples, rng))
        for place, (at, _) in enumerate(told):
            found[at] = np.stack([columns[:, place] for columns in scores], axis=-1)
    return found


def fewest_items(rows: Sequence[RunRow], criterion: str) -> int:
    """Number of items of the smallest task among the picks of these rows; 0 without items."""
    lengths = [
        len(items) for row in rows for items in _items(row, criterion).values() if items is not None
    ]
    return min(lengths, default=0)


def _items(row: RunRow, criterion: str) -> dict[str, np.ndarray | None]:
    return dict(row.picks[criterion].items) if criterion in row.picks else {}


def _means(items: Sequence[np.ndarray], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """``(R, runs)`` means over resampled items; how often an item is drawn is multinomial."""
    table = np.stack(items, axis=1)
    n = len(table)
    parts = []
    for start in range(0, resamples, _CHUNK):  # all at once would hold resamples x items
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(_CHUNK, resamples - start))
        parts.append(counts @ table / n)
    return np.concatenate(parts)
