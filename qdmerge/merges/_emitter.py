"""A recipe's merge grid as a pyribs emitter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from ribs.emitters import EmitterBase

from qdmerge.errors import ConfigError
from qdmerge.merges._grid import Axes, Recipe, grid, recipe_solutions

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.emitters import EmitterSpec


class RecipeEmitter(EmitterBase):
    """An emitter of all solutions of a recipe's merge grid, in one batch.

    Meant for the scheduler ``fixed`` and a budget of :func:`grid_size` evaluations.

    Args:
        archive: Archive of the active task.
        spec: What the search provides.
        recipe: The recipe. ``experts`` tries the experts alone. Linear ones (``average``,
            ``task_arithmetic``, ``tilted``) need a space that can merge; ``regmean`` one with
            regression means; the others the space of their name.
        scales: See :class:`Axes`.
        densities: See :class:`Axes`.
        tilts: See :class:`Axes`.
        ridges: See :class:`Axes`.
        ts: See :class:`Axes`.

    Raises:
        ConfigError: The space cannot express the recipe, or :func:`grid` refuses an option.
    """

    def __init__(
        self,
        archive: ArchiveBase,
        spec: EmitterSpec,
        recipe: Recipe = "average",
        scales: Sequence[float] | None = None,
        densities: Sequence[float] | None = None,
        tilts: Sequence[tuple[float, float]] | None = None,
        ridges: Sequence[float] | None = None,
        ts: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            archive,
            solution_dim=archive.solution_dim,
            bounds=None,
            lower_bounds=spec.space.lower_bounds,
            upper_bounds=spec.space.upper_bounds,
        )
        axes = Axes(scales, densities, tilts, ridges, ts)
        rows = grid(recipe, len(spec.space.experts), axes)
        self._recipe = recipe
        self._solutions = recipe_solutions(recipe, spec.space, rows)
        self._asked = False

    @property
    def batch_size(self) -> int:
        """Number of solutions in the one batch."""
        return len(self._solutions)

    def ask(self) -> np.ndarray:
        """Return all solutions, ``(batch_size, dim)``.

        Raises:
            ConfigError: They were returned before: the run's budget exceeds the grid.
        """
        if self._asked:
            raise ConfigError(
                f"recipe '{self._recipe}' has {self.batch_size} solutions, all evaluated; "
                f"set 'evaluations: {self.batch_size}'"
            )
        self._asked = True
        return self._solutions.copy()
