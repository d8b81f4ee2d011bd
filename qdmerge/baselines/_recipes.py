"""Merging recipes that need no search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from qdmerge.baselines._grid import LINEAR, Recipe
from qdmerge.errors import ConfigError

if TYPE_CHECKING:
    from qdmerge.spaces import Space


@runtime_checkable
class Mergeable(Protocol):
    """A space that can express every linear merge of its experts.

    Attributes:
        experts: Names of the experts.
    """

    experts: tuple[str, ...]

    def merge(self, weights: Sequence[float]) -> np.ndarray:
        """The ``(dim,)`` solution of ``theta_base + sum_k weights[k] tau_k``."""
        ...


@runtime_checkable
class Regressing(Protocol):
    """A space that can express regression means of its experts.

    Attributes:
        experts: Names of the experts.
    """

    experts: tuple[str, ...]

    def regression_mean(self, weights: Sequence[float], ridge: float | None = None) -> np.ndarray:
        """The ``(dim,)`` solution with one weight per expert and a ridge; None for its own."""
        ...


def plain_average(space: Mergeable) -> np.ndarray:
    """The mean of the experts' weights (model soup, arXiv 2203.05482).

    Returns:
        ``(dim,)`` solution.
    """
    return space.merge([1 / len(space.experts)] * len(space.experts))


def task_arithmetic(space: Mergeable, scale: float) -> np.ndarray:
    """``theta_base + scale * sum_k tau_k`` (arXiv 2212.04089).

    Args:
        space: Space of the models.
        scale: Factor on the sum of the task vectors.

    Returns:
        ``(dim,)`` solution.
    """
    return space.merge([scale] * len(space.experts))


def recipe_solutions(recipe: Recipe, space: Space, rows: np.ndarray) -> np.ndarray:
    """The solutions that a recipe's grid stands for in a space.

    Args:
        recipe: Name of the recipe.
        space: Space of the models.
        rows: What :func:`grid` gives.

    Returns:
        ``(len(rows), dim)`` solutions.

    Raises:
        ConfigError: The space cannot express them.
    """
    if recipe == "experts":
        return np.stack([space.seeds[name] for name in space.experts])
    if recipe in LINEAR:
        if not isinstance(space, Mergeable):
            raise ConfigError(
                f"recipe '{recipe}' is a linear merge, which the space '{space.name}' cannot "
                "express; use 'space: expert', 'layer', 'spectral' or 'core'"
            )
        return np.stack([space.merge(row) for row in rows])
    if recipe == "regmean" and isinstance(space, Regressing):
        try:
            return np.stack([space.regression_mean(row[:-1], row[-1]) for row in rows.tolist()])
        except ValueError as error:
            raise ConfigError(f"recipe 'regmean': {error}") from error
    if space.name != recipe:
        raise ConfigError(f"recipe '{recipe}' needs 'space: {recipe}'; the space is '{space.name}'")
    return rows.astype(space.dtype)
