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
from qdmerge.options import checked

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.emitters import EmitterSpec


class BaselineEmitter(EmitterBase):
    """A search with a state of its own; the archive only collects what it finds. Needs a
    :class:`~qdmerge.schedulers.FixedScheduler` on the first task: scores come in the tasks' order.
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
        self._batch_size = 1

    @property
    def batch_size(self) -> int:
        """Return the number of solutions per ask; some ask for others first."""
        return self._batch_size

    def _solutions(self, x: np.ndarray) -> np.ndarray:
        """Return ``(n, dim)`` vectors clipped to the bounds of the space, in its dtype."""
        return np.clip(x, self.lower_bounds, self.upper_bounds).astype(self._space.dtype)

    def _scores(self, objective: np.ndarray, measures: np.ndarray) -> np.ndarray:
        """Return ``(n, K)`` scores on all tasks, the active one first."""
        return np.column_stack([objective, measures[:, : self._n_scores]])

    def _known(self) -> np.ndarray:
        """Return ``(n, dim)``: the average and the experts, or the mean of all seeds and these."""
        space = self._space
        names = space.experts or tuple(space.seeds)
        return np.stack([space.x0, *(space.seeds[name] for name in names)])


def need(library: str, method: str) -> None:
    """Check that a library of the extra ``compare`` is installed."""
    try:
        import_module(library)
    except ImportError as error:
        raise ConfigError(f"{method} needs {library}: pip install 'qdmerge[compare]'") from error


@checked
class RandomEmitter(BaselineEmitter):
    """Random search: draws that do not depend on earlier ones, within the bounds of the space.

    ``"gaussian"`` draws around the plain average, which suits every space. ``"uniform"`` draws
    each coordinate between ``low`` and ``high``, which suits spaces whose coordinates are weights
    of experts (``expert``, ``layer`` and ``spectral``).

    Args:
        archive: Archive of the active task; only its solutions' shape matters.
        spec: What the run provides.
        distribution: "gaussian" or "uniform".
        sigma: Standard deviation per coordinate of "gaussian" (1 is an expert's whole weight).
        low: Lower end of "uniform".
        high: Upper end of "uniform".
        batch_size: Solutions per ask; each ask draws from a generator of (seed, number of ask).

    Raises:
        ConfigError: An option out of bounds, or ``low`` above ``high``.
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
        if not low <= high:
            raise ConfigError(f"low must not be above high; got low={low}, high={high}")
        self._distribution = distribution
        self._sigma = sigma
        self._low, self._high = low, high
        self._batch_size = batch_size
        self._asks = 0

    def ask(self) -> np.ndarray:
        """Return ``(batch_size, dim)`` new solutions."""
        rng = np.random.default_rng([self._seed, self._asks])
        self._asks += 1
        shape = (self._batch_size, self._space.dim)
        if self._distribution == "gaussian":
            return self._solutions(self._space.x0 + rng.normal(0.0, self._sigma, shape))
        return self._solutions(rng.uniform(self._low, self._high, shape))


def _geometric_mean(scores: np.ndarray) -> np.ndarray:
    """Return geometric means by products: logs round differently, which would reorder ties."""
    return np.prod(np.maximum(scores, 0), axis=1) ** (1 / scores.shape[1])


_FULL_COVARIANCE = 1000
"""Most coordinates with a full covariance by default: beyond, decomposing it takes too long, and
a few hundred evaluations cannot learn it."""


@checked
class CMAESEmitter(BaselineEmitter):
    """CMA-ES (Hansen 2016, arXiv 1604.00772) by ``cma``: evolves one mean and covariance.

    Unlike pyribs' evolution strategies it ignores the archive: it maximizes one number of the
    scores on all tasks, from the plain average on. An ask is one generation. When the library's
    own criteria stop it (converged, flat fitness), it restarts from the average with another
    generator and twice the population (IPOP, Auger and Hansen 2005).

    Args:
        archive: Archive of the active task; only its solutions' shape matters.
        spec: What the run provides.
        objective: What is maximized: "mean", "geometric_mean" (0 where a score is 0 or less), or
            "minimum" over the tasks.
        sigma0: First standard deviation per coordinate (1 is an expert's whole weight).
        popsize: Solutions per generation; None for the library's ``4 + floor(3 ln dim)``.
        diagonal: Whether the covariance is diagonal, which learns faster and costs less in many
            dimensions; None: beyond 1000 coordinates.

    Raises:
        ConfigError: The library is missing, the space has one coordinate only, or an option is out
            of bounds.
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
        """Return the size of the next generation; before a restart, of the last one."""
        return self._popsize * 2 ** max(self._starts - 1, 0)

    @property
    def starts(self) -> int:
        """Return the number of starts, the first one included."""
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
        """Return ``(batch_size, dim)`` solutions of the next generation."""
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
        """Take the scores of the last generation: of the active task, then of the others."""
        scores = self._scores(objective, measures)
        if self._objective == "geometric_mean":
            values = _geometric_mean(scores)
        else:
            values = over_tasks(self._objective, scores)
        # The vectors as asked: rounded to the space's dtype they would count as foreign.
        self._strategy.tell(self._asked, (-values).tolist())
