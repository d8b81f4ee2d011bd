"""NSGA-II over the tasks' scores, as a pyribs emitter around the library pymoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from qdmerge.baselines._emitter import BaselineEmitter, need
from qdmerge.errors import ConfigError

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.emitters import EmitterSpec


class NSGA2Emitter(BaselineEmitter):
    """NSGA-II (Deb et al. 2002, doi 10.1109/4235.996017) by ``pymoo``: evolves a Pareto front.

    It maximizes the K tasks' scores, with pymoo's defaults: tournaments, simulated binary
    crossover (eta 15, probability 0.9) and polynomial mutation (eta 20). An ask is one generation.
    The first one holds the average and the experts, and Gaussian noise around the average.

    Crossover and mutation need a box. It reaches, per coordinate, from ``margin`` below the lowest
    to ``margin`` above the highest of base and experts, within the bounds of the space; so [-0.5,
    1.5] where a coordinate is an expert's weight.

    Args:
        archive: Archive of the active task; only its solutions' shape matters.
        spec: What the run provides.
        population: Solutions per generation; experts beyond it are left out of the first one.
        sigma: Standard deviation of the first generation's noise (1 is an expert's whole weight).
        margin: How far the box reaches beyond base and experts, in units of coordinates.

    Raises:
        ConfigError: The library is missing, or the search has one task only.
        ValueError: ``population`` below 2, negative ``sigma``, or ``margin`` not positive.
    """

    def __init__(
        self,
        archive: ArchiveBase,
        spec: EmitterSpec,
        *,
        population: Annotated[int, Field(ge=2)] = 15,
        sigma: Annotated[float, Field(ge=0)] = 0.2,
        margin: Annotated[float, Field(gt=0)] = 0.5,
    ) -> None:
        super().__init__(archive, spec)
        if population < 2:
            raise ValueError(f"population must be at least 2; got {population}")
        if not sigma >= 0:
            raise ValueError(f"sigma must be at least 0; got {sigma}")
        if not margin > 0:
            raise ValueError(f"margin must be positive; got {margin}")
        if spec.n_scores < 1:
            raise ConfigError(
                "NSGA-II looks for trade-offs between tasks, and this search has one task; use "
                "CMA-ES or random search"
            )
        need("pymoo", "NSGA-II")
        self._population = population
        self._sigma = sigma
        seeds = np.stack(list(self._space.seeds.values())).astype(float)
        self._low = np.maximum(seeds.min(axis=0) - margin, self.lower_bounds)
        self._high = np.minimum(seeds.max(axis=0) + margin, self.upper_bounds)
        self._algorithm: Any = None
        self._asked: Any = None

    @property
    def batch_size(self) -> int:
        """Solutions per generation."""
        return self._population

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """``(dim,)`` lower and upper ends of the box that is searched."""
        return self._low, self._high

    def first_generation(self) -> np.ndarray:
        """``(population, dim)`` solutions that the search starts from."""
        rng = np.random.default_rng([self._seed, 0])
        noise = rng.normal(0.0, self._sigma, (self._population, self._space.dim))
        first = np.clip(self._space.x0 + noise, self._low, self._high)
        known = self._known()[: self._population]
        first[: len(known)] = known
        return first

    def _start(self) -> Any:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination

        problem = Problem(
            n_var=self._space.dim, n_obj=self._n_scores + 1, xl=self._low, xu=self._high
        )
        algorithm = NSGA2(pop_size=self._population, sampling=self.first_generation())
        return algorithm.setup(problem, seed=self._seed, termination=NoTermination())

    def ask(self) -> np.ndarray:
        """``(batch_size, dim)`` solutions of the next generation."""
        if self._algorithm is None:
            self._algorithm = self._start()
        self._asked = self._algorithm.ask()
        return self._solutions(self._asked.get("X"))

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
        from pymoo.core.evaluator import Evaluator
        from pymoo.problems.static import StaticProblem

        scored = StaticProblem(self._algorithm.problem, F=-self._scores(objective, measures))
        Evaluator().eval(scored, self._asked)
        self._algorithm.tell(infills=self._asked)
