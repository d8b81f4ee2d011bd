"""CMA-ES on one number per model, as a pyribs emitter around the library cma."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from qdmerge.baselines._emitter import BaselineEmitter, need
from qdmerge.errors import ConfigError

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.emitters import EmitterSpec

_OBJECTIVES = {
    "mean": lambda scores: scores.mean(axis=1),
    "geometric_mean": lambda scores: (
        np.prod(np.maximum(scores, 0), axis=1) ** (1 / scores.shape[1])
    ),
    "minimum": lambda scores: scores.min(axis=1),
}

_FULL_COVARIANCE = 1000
"""Coordinates up to which a full covariance is affordable: its square is decomposed again and
again, and a few hundred evaluations could not learn it anyway."""


class CMAESEmitter(BaselineEmitter):
    """CMA-ES (Hansen 2016, arXiv 1604.00772) by ``cma``: evolves one mean and covariance.

    Unlike pyribs' evolution strategies it ignores the archive: it maximizes one number made of
    the scores on all tasks, starting from the plain average. An ask is one generation. Where the
    library's own criteria stop it (converged, flat fitness), it starts again from the average,
    with the generator of the next start and twice the population (IPOP, Auger and Hansen 2005).

    Args:
        archive: Archive of the active task; only its solutions' shape matters.
        spec: What the run provides.
        objective: What is maximized: "mean", "geometric_mean" (scores below 0 count as 0), or
            "minimum" over the tasks.
        sigma0: First standard deviation per coordinate (1 is an expert's whole weight).
        popsize: Solutions per generation; None for the library's ``4 + floor(3 ln dim)``.
        diagonal: Whether the covariance is diagonal, which learns faster and costs less in many
            dimensions; None for above 1000 coordinates.

    Raises:
        ConfigError: The library is missing, or the space has one coordinate only.
        ValueError: Unknown objective, or ``sigma0`` or ``popsize`` too small.
    """

    def __init__(
        self,
        archive: ArchiveBase,
        spec: EmitterSpec,
        *,
        objective: Literal["mean", "geometric_mean", "minimum"] = "mean",
        sigma0: Annotated[float, Field(gt=0)] = 0.2,
        popsize: Annotated[int, Field(ge=2)] | None = None,
        diagonal: bool | None = None,
    ) -> None:
        super().__init__(archive, spec)
        if objective not in _OBJECTIVES:
            raise ValueError(
                f"objective must be one of {', '.join(_OBJECTIVES)}; got {objective!r}"
            )
        if not sigma0 > 0:
            raise ValueError(f"sigma0 must be positive; got {sigma0}")
        if popsize is not None and popsize < 2:
            raise ValueError(f"popsize must be at least 2; got {popsize}")
        need("cma", "CMA-ES")
        if self._space.dim < 2:
            raise ConfigError(
                "CMA-ES needs at least two coordinates, and this space has one; use random search"
            )
        self._objective = _OBJECTIVES[objective]
        self._sigma0 = sigma0
        self._popsize = popsize or 4 + math.floor(3 * math.log(self._space.dim))
        self._diagonal = self._space.dim > _FULL_COVARIANCE if diagonal is None else diagonal
        self._strategy: Any = None
        self._starts = 0
        self._asked: list[np.ndarray] = []

    @property
    def batch_size(self) -> int:
        """Solutions of the next generation; before a restart, of the last one."""
        return self._popsize * 2 ** max(self._starts - 1, 0)

    @property
    def starts(self) -> int:
        """How often the strategy was started, the first time included."""
        return self._starts

    def _start(self) -> Any:
        import cma

        rng = np.random.default_rng([self._seed, self._starts])
        self._starts += 1
        options = {
            "popsize": self.batch_size,
            "bounds": [self.lower_bounds.tolist(), self.upper_bounds.tolist()],
            "CMA_diagonal": self._diagonal,
            "randn": lambda *shape: rng.standard_normal(shape),
            "seed": np.nan,  # leave numpy's global generator alone
            "verbose": -10,  # print nothing, and read no file of the working directory
        }
        return cma.CMAEvolutionStrategy(self._space.x0.astype(float), self._sigma0, options)

    def ask(self) -> np.ndarray:
        """``(batch_size, dim)`` solutions of the next generation."""
        if self._strategy is None or self._strategy.stop():
            self._strategy = self._start()
        self._asked = self._strategy.ask()
        return self._solutions(np.stack(self._asked))

    def tell(
        self,
        solution: np.ndarray,
        objective: np.ndarray,
        measures: np.ndarray,
        add_info: dict[str, np.ndarray],
        **fields: np.ndarray,
    ) -> None:
        """Gives the scores of the last generation asked for.

        Args:
            solution: ``(batch_size, dim)`` solutions.
            objective: ``(batch_size,)`` scores on the active task.
            measures: ``(batch_size, >= K - 1)``, of which the first are the other tasks' scores.
            add_info: pyribs' report of what entered the archive; unused.
            **fields: Unused.
        """
        values = self._objective(self._scores(objective, measures))
        # Told as asked: in the space's dtype they may be rounded, and would count as foreign.
        self._strategy.tell(self._asked, (-values).tolist())
