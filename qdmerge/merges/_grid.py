"""Recipes without search, and the grids of their free parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from qdmerge.errors import ConfigError, nearest

if TYPE_CHECKING:
    from qdmerge.spaces import Space

Recipe = Literal[
    "experts",
    "average",
    "task_arithmetic",
    "tilted",
    "regmean",
    "ties",
    "dare",
    "dare_ties",
    "slerp",
]
"""Names of the merges without search."""

LINEAR = ("average", "task_arithmetic", "tilted")
"""Recipes that are linear merges; they work in every space that can merge."""

Rows = list[list[float]]


@dataclass(frozen=True)
class Axes:
    """What a merge grid runs over; an axis of None has the recipe's own values, if any.

    Attributes:
        scales: Of task arithmetic, DARE and DARE-TIES the one weight of all experts; of TIES, SLERP
            and the regression mean the factor on the merged task vector.
        densities: Shares of the task vectors' elements that stay, 0 to 1.
        tilts: The weight of one expert, and that of all others.
        ridges: What is added to the diagonals of regression means; above 0.
        ts: Of SLERP, where between two experts, 0 to 1; of a chain, ``t_n`` gives every later
            expert the odds ``t / (1 - t)`` against each one before, so that .5 has all count alike.
    """

    scales: Sequence[float] | None = None
    densities: Sequence[float] | None = None
    tilts: Sequence[tuple[float, float]] | None = None
    ridges: Sequence[float] | None = None
    ts: Sequence[float] | None = None


_OWN = Axes()


@dataclass(frozen=True)
class _Grid:
    defaults: Axes
    rows: Callable[[int, Axes], Rows]


def _average(k: int, axes: Axes) -> Rows:
    return [[1 / k] * k]


def _task_arithmetic(k: int, axes: Axes) -> Rows:
    return [[scale] * k for scale in axes.scales or ()]


def _tilted(k: int, axes: Axes) -> Rows:
    return [
        [high if other == expert else low for other in range(k)]
        for high, low in axes.tilts or ()
        for expert in range(k)
    ]


def _regmean(k: int, axes: Axes) -> Rows:
    return [[scale / k] * k + [ridge] for ridge in axes.ridges or () for scale in axes.scales or ()]


def _ties(k: int, axes: Axes) -> Rows:
    return [[1.0] * k + [d, scale] for d in axes.densities or () for scale in axes.scales or ()]


def _dare(k: int, axes: Axes) -> Rows:
    return [[scale] * k + [d] for d in axes.densities or () for scale in axes.scales or ()]


def _slerp(k: int, axes: Axes) -> Rows:
    if k < 2:
        raise ConfigError(f"recipe 'slerp' needs at least 2 experts; there is {k}")
    return [
        [scale] + [t / (t + (n - 1) * (1 - t)) for n in range(2, k + 1)]
        for t in axes.ts or ()
        for scale in axes.scales or ()
    ]


def _experts(k: int, axes: Axes) -> Rows:
    return np.eye(k).tolist()


_GRIDS: dict[Recipe, _Grid] = {
    "experts": _Grid(Axes(), _experts),
    "average": _Grid(Axes(), _average),
    "task_arithmetic": _Grid(
        Axes(scales=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)), _task_arithmetic
    ),
    "tilted": _Grid(Axes(tilts=((0.8, 0.5), (0.7, 0.4), (1.0, 0.4), (0.6, 0.3))), _tilted),
    "regmean": _Grid(Axes(scales=(0.7, 0.85, 1.0, 1.15), ridges=(0.01, 0.1, 1.0)), _regmean),
    "ties": _Grid(Axes(scales=(0.7, 1.0, 1.3, 1.6), densities=(0.2, 0.5, 0.8)), _ties),
    "dare": _Grid(Axes(scales=(0.3, 0.5, 0.7, 0.9), densities=(0.2, 0.5, 0.8)), _dare),
    "dare_ties": _Grid(Axes(scales=(0.4, 0.6, 0.8, 1.0), densities=(0.2, 0.5, 0.8)), _dare),
    "slerp": _Grid(Axes(scales=(1.0, 1.25, 1.5, 2.0), ts=(0.5, 0.3, 0.7)), _slerp),
}


def grid(recipe: Recipe, n_experts: int, axes: Axes = _OWN) -> np.ndarray:
    """Return what a recipe tries for a number of experts.

    Args:
        recipe: Name of the recipe.
        n_experts: Number of experts, K.
        axes: What the grid runs over; an axis of None is the recipe's own.

    Returns:
        A solution per row: of linear recipes and ``experts`` the K experts' weights, of ``regmean``
        these and the ridge, of others the ``x`` of the space of that name.

    Raises:
        ConfigError: Unknown recipe, an axis that the recipe does not have, an empty axis, a density
            or ``t`` outside [0, 1], a ridge not above 0, no experts, or one expert for SLERP.
    """
    if recipe not in _GRIDS:
        known = ", ".join(get_args(Recipe))
        raise ConfigError(f"unknown recipe '{recipe}'{nearest(recipe, _GRIDS)} Known: {known}.")
    if n_experts < 1:
        raise ConfigError(f"recipe '{recipe}' merges experts, but there are none")
    given = {name: values for name, values in vars(axes).items() if values is not None}
    defaults = _GRIDS[recipe].defaults
    for name, values in given.items():
        if getattr(defaults, name) is None:
            raise ConfigError(f"recipe '{recipe}' has no '{name}'; remove the option")
        if not len(values) or not np.isfinite(values).all():
            raise ConfigError(
                f"recipe '{recipe}': '{name}' must be finite numbers, at least one; got {values}"
            )
        if name in ("densities", "ts") and not all(0 <= share <= 1 for share in values):
            raise ConfigError(f"recipe '{recipe}': {name} must lie in [0, 1]; got {values}")
        if name == "ridges" and not all(ridge > 0 for ridge in values):
            raise ConfigError(f"recipe '{recipe}': ridges must be above 0; got {values}")
    return np.array(_GRIDS[recipe].rows(n_experts, replace(defaults, **given)))


def grid_size(recipe: Recipe, n_experts: int, axes: Axes = _OWN) -> int:
    """Return how many solutions a recipe tries: the budget of a run of it; see :func:`grid`."""
    return len(grid(recipe, n_experts, axes))


@runtime_checkable
class Mergeable(Protocol):
    """A space that can express every linear merge of its experts.

    Attributes:
        experts: Names of the experts.
    """

    experts: tuple[str, ...]

    def merge(self, weights: Sequence[float]) -> np.ndarray:
        """Return the ``(dim,)`` solution of ``theta_base + sum_k weights[k] tau_k``."""
        ...


@runtime_checkable
class Regressing(Protocol):
    """A space that can express regression means of its experts.

    Attributes:
        experts: Names of the experts.
    """

    experts: tuple[str, ...]

    def regression_mean(self, weights: Sequence[float], ridge: float | None = None) -> np.ndarray:
        """Return the ``(dim,)`` solution with these weights and ridge; None: the space's own."""
        ...


def plain_average(space: Mergeable) -> np.ndarray:
    """Return the mean of the experts' weights (model soup, arXiv 2203.05482).

    Returns:
        ``(dim,)`` solution.
    """
    return space.merge([1 / len(space.experts)] * len(space.experts))


def task_arithmetic(space: Mergeable, scale: float) -> np.ndarray:
    """Return ``theta_base + scale * sum_k tau_k`` (arXiv 2212.04089).

    Args:
        space: Space of the models.
        scale: Factor on the sum of the task vectors.

    Returns:
        ``(dim,)`` solution.
    """
    return space.merge([scale] * len(space.experts))


def recipe_solutions(recipe: Recipe, space: Space, rows: np.ndarray) -> np.ndarray:
    """Return the solutions that the rows of a recipe's grid stand for in a space.

    Args:
        recipe: Name of the recipe.
        space: Space of the models.
        rows: What :func:`grid` returns.

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
