"""Crossover: several parents become one child."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import numpy as np
from pydantic import Field

from qdmerge.errors import ConfigError
from qdmerge.options import checked


class Crossover(Protocol):
    """Combines parents into children.

    Attributes:
        parents: Number of parents of one child.
    """

    @property
    def parents(self) -> int:
        """Number of parents of one child."""
        ...

    def __call__(self, parents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Merge ``(n, parents, dim)`` solutions to ``(n, dim)`` children."""
        ...


@checked
@dataclass(frozen=True)
class LinearCrossover:
    """Merges two parents with weights near one half, as CycleQD does.

    ``theta = theta_base + w1/(w1+w2) tau_1 + w2/(w1+w2) tau_2`` with w drawn from N(1, sigma^2)
    (arXiv 2410.14735, section 3.1). Coordinates are linear in the task vectors, so the same
    weights mix the parents' ``x``. Weights may be negative.

    Args:
        sigma: Standard deviation of the weights; 0.03 in the paper, 0.01 in the released
            configuration.
        total: Ends of the uniform distribution of the sum of both weights: 1 in the paper. The
            sum of unlike skills' task vectors, at a total above 1, keeps more of each than their
            mean.

    Raises:
        ConfigError: ``sigma`` is negative, or ``total`` falls.
    """

    sigma: Annotated[float, Field(ge=0)] = 0.03
    total: tuple[float, float] = (1.0, 1.0)

    parents: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not self.total[0] <= self.total[1]:
            raise ConfigError(f"LinearCrossover: 'total' must not fall (got {self.total})")

    def __call__(self, parents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Merge ``(n, 2, dim)`` parents to ``(n, dim)`` children, in the parents' dtype."""
        weights = rng.normal(1.0, self.sigma, size=parents.shape[:2])
        weights /= weights.sum(axis=1, keepdims=True)
        low, high = self.total
        if (low, high) != (1.0, 1.0):
            weights *= rng.uniform(low, high, size=(len(weights), 1))
        return np.einsum("np,npd->nd", weights, parents).astype(parents.dtype)


@dataclass(frozen=True)
class NoCrossover:
    """One parent, unchanged; only mutation varies it."""

    parents: ClassVar[int] = 1

    def __call__(self, parents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Copy ``(n, 1, dim)`` parents to ``(n, dim)`` children."""
        return parents[:, 0].copy()
