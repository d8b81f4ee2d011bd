"""Rival searches without an archive: random search and CMA-ES."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field
from ribs.emitters import EmitterBase

from qdmerge.criteria import over_tasks
from qdmerge.errors import ConfigError

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.emitters import EmitterSpec


class BaselineEmitter(EmitterBase):
    """A search that keeps its own state, beside an archive that only collects what it finds.

    Meant for :class:`~qdmerge.schedulers.FixedScheduler` with the first task active, so that the
    scores it is told are in the order of the tasks.

    Args:
        archive: Archive of the active task.
        spec: What the run provides: space, number of scores, seed.
    """

    def __init__(self, archive: ArchiveBase, spec: EmitterSpec) -> None:
        super().__init__(
            archive,
            solution_dim=spec.space.dim,
            bounds=None,
            lower_bounds=spec.space.lower_bounds,
            upper_bounds=spec.space.upper_bounds,
        )
        self._space = spec.space
        self._n_scores = spec.n_scores
        self._seed = spec.seed

    def _solutions(self, x: np.ndarray) -> np.ndarray:
        """``(n, dim)`` vectors as solutions of the space: clipped to its bounds, in its dtype."""
        return np.clip(x, self.lower_bounds, self.upper_bounds).astype(self._space.dtype)

    def _scores(self, objective: np.ndarray, measures: np.ndarray) -> np.ndarray:
        """``(n, K)`` scores on all tasks, the active one first."""
        return np.column_stack([objective, measures[:, : self._n_scores]])

    def _known(self) -> np.ndarray:
        """``(n, dim)`` what is known before any search: the average, then the experts.

        Without experts, the mean of all seeds, then these.
        """
        space = self._space
        names = space.experts or tuple(space.seeds)
        return np.stack([space.x0, *(space.seeds[name] for name in names)])


def need(library: str, method: str) -> None:
    """Checks that a library of the extra ``compare`` is there.

    Raises:
        ConfigError: It cannot be imported; the message tells how to install it.
    """
    try:
        import_module(library)
    except ImportError as error:
        raise ConfigError(f"{method} needs {library}: pip install 'qdmerge[compare]'") from error


class RandomEmitter(BaselineEmitter):
    """Draws every solution anew, whatever was found before; clipped to the bounds of the space.

    ``"gaussian"`` draws around the plain average, which suits every space. ``"uniform"`` draws
    each coordinate between ``low`` and ``high``. With the default [0, 1] that is random search
    over merging coefficients where a coordinate is an expert's weight, from nothing of an expert
    to all of it (spaces ``expert``, ``layer`` and ``spectral``); entries of cores are no weights.

    Args:
        archive: Archive of the active task; only its solutions' shape matters.
        spec: What the run provides.
        distribution: "gaussian" or "uniform".
        sigma: Standard deviation per coordinate of "gaussian" (1 is an expert's whole weight).
        low: Lower end of "uniform".
        high: Upper end of "uniform".
        batch_size: Solutions per ask; each ask draws from a generator of (seed, number of ask).

    Raises:
        ValueError: Unknown distribution, negative ``sigma``, ``low`` above ``high``, or
            ``batch_size`` below 1.
    """

    def __init__(
        self,
        archive: ArchiveBase,
        spec: EmitterSpec,
        *,
        distribution: Literal["gaussian", "uniform"] = "gaussian",
        sigma: Annotated[float, Field(ge=0)] = 0.2,
        low: float = 0.0,
        high: float = 1.0,
        batch_size: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        super().__init__(archive, spec)
        if distribution not in ("gaussian", "uniform"):
            raise ValueError(f"distribution must be 'gaussian' or 'uniform'; got {distribution!r}")
        if not sigma >= 0:
            raise ValueError(f"sigma must be at least 0; got {sigma}")
        if not low <= high:
            raise ValueError(f"low must not be above high; got low={low}, high={high}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        self._distribution = distribution
        self._sigma = sigma
        self._low, self._high = low, high
        self._batch_size = batch_size
        self._asks = 0

    @property
    def batch_size(self) -> int:
        """Solutions per ask."""
        return self._batch_size

    def ask(self) -> np.ndarray:
        """``(batch_size, dim)`` new solutions."""
        rng = np.random.default_rng([self._seed, self._asks])
        self._asks += 1
        shape = (self._batch_size, self._space.dim)
        if self._distribution == "gaussian":
            return self._solutions(self._space.x0 + rng.normal(0.0, self._sigma, shape))
        return self._solutions(rng.uniform(self._low, self._high, shape))


_OBJECTIVES = ("mean", "geometric_mean", "minimum")

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
        objective: What is maximized: "mean", "geometric_mean" (0 where a score is 0 or less), or
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
        self._objective = objective
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
        values = over_tasks(self._objective, self._scores(objective, measures))
        # Told as asked: in the space's dtype they may be rounded, and would count as foreign.
        self._strategy.tell(self._asked, (-values).tolist())
