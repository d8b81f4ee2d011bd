"""Parent selection: which elites of the active archive become parents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from pydantic import Field

from qdmerge.errors import ConfigError
from qdmerge.options import checked


class Selection(Protocol):
    """Chooses groups of different parents from the elites of one archive."""

    def __call__(
        self, scores: np.ndarray, groups: int, parents: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Choose parents.

        Args:
            scores: ``(n, K)`` scores of the elites on all tasks; column 0 is the active task's
                (the archive's quality).
            groups: Number of children, each with parents of its own.
            parents: Parents per child, different from one another where n allows it.
            rng: Source of all randomness.

        Returns:
            ``(groups, parents)`` indices of elites.
        """
        ...


def sample_groups(
    probabilities: np.ndarray, groups: int, parents: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw ``(groups, parents)`` indices, different within a group, with the given probabilities.
    An archive with fewer elites than parents repeats them.
    """
    n = len(probabilities)
    support = int(np.count_nonzero(probabilities))
    if support >= parents:
        draws = [rng.choice(n, parents, replace=False, p=probabilities) for _ in range(groups)]
        return np.array(draws)
    first = np.flatnonzero(probabilities)
    return np.array([np.resize(rng.permutation(first), parents) for _ in range(groups)])


@checked
@dataclass(frozen=True)
class EliteSelection:
    """The paper's elite sampling: chances grow with all of an elite's scores.

    ``gamma_j = prod_n (low + (f[j, n] - min_n) / (max_n - min_n) * (high - low))`` over all K
    scores, minimum and maximum over the archive; a score on which all elites are equal counts as
    factor 1; ``P(j) = gamma_j / sum(gamma)`` (arXiv 2410.14735, section 3.3). The released code
    multiplies by ``high`` instead of ``high - low``; this follows the paper.

    Args:
        low: Factor of the archive's lowest score on a task (alpha_low).
        high: Factor of the archive's highest score on a task (alpha_high).

    Raises:
        ConfigError: Not 0 < low <= high.
    """

    low: Annotated[float, Field(gt=0)] = 0.5
    high: Annotated[float, Field(gt=0)] = 0.8

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ConfigError(
                f"EliteSelection: 'low' must not exceed 'high' (got {self.low} and {self.high})"
            )

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Return the ``(n,)`` chance of each elite, from ``(n, K)`` scores."""
        low, high = scores.min(axis=0), scores.max(axis=0)
        varied = high > low
        if not varied.any():
            return np.full(len(scores), 1 / len(scores))
        relative = (scores[:, varied] - low[varied]) / (high - low)[varied]
        gamma: np.ndarray = np.prod(self.low + relative * (self.high - self.low), axis=1)
        return gamma / gamma.sum()

    def __call__(
        self, scores: np.ndarray, groups: int, parents: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Choose parents; see :class:`Selection`."""
        return sample_groups(self.probabilities(scores), groups, parents, rng)


@dataclass(frozen=True)
class UniformSelection:
    """The same chance for every elite, as in MAP-Elites."""

    def __call__(
        self, scores: np.ndarray, groups: int, parents: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Choose parents; see :class:`Selection`."""
        return sample_groups(np.full(len(scores), 1 / len(scores)), groups, parents, rng)


@checked
@dataclass(frozen=True)
class RankSelection:
    """Linear ranking on the active task's score (Baker 1985).

    The best of n elites is drawn ``pressure`` times as often as the average one, the worst
    ``2 - pressure`` times; equal scores share their rank.

    Args:
        pressure: Selection pressure in [1, 2]; 1 is uniform.

    Raises:
        ConfigError: ``pressure`` is outside [1, 2].
    """

    pressure: Annotated[float, Field(ge=1, le=2)] = 1.8

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Return the ``(n,)`` chance of each elite, from ``(n, K)`` scores."""
        n = len(scores)
        if n == 1:
            return np.ones(1)
        quality = scores[:, 0]
        below = (quality[None] < quality[:, None]).sum(axis=1)
        ties = (quality[None] == quality[:, None]).sum(axis=1)
        rank = below + (ties - 1) / 2
        chance: np.ndarray = 2 - self.pressure + 2 * (self.pressure - 1) * rank / (n - 1)
        return chance / chance.sum()

    def __call__(
        self, scores: np.ndarray, groups: int, parents: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Choose parents; see :class:`Selection`."""
        return sample_groups(self.probabilities(scores), groups, parents, rng)
