"""Intervals over seeds and items, and tests of paired differences."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np

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
