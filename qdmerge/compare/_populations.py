"""Rival searches with a population: NSGA-II and natural niches (M2N2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from qdmerge.compare._rivals import BaselineEmitter, need
from qdmerge.errors import ConfigError
from qdmerge.options import checked

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.emitters import EmitterSpec


@checked
class NSGA2Emitter(BaselineEmitter):
    """NSGA-II (Deb et al. 2002, doi 10.1109/4235.996017) by ``pymoo``: evolves a Pareto front.

    It maximizes the scores on all K tasks with pymoo's defaults: tournaments, simulated binary
    crossover (eta 15, probability 0.9) and polynomial mutation (eta 20). An ask is one generation.
    The first one is the average, the experts, and Gaussian noise around the average.

    Crossover and mutation stay in a box: per coordinate, from ``margin`` below the lowest to
    ``margin`` above the highest of base and experts, within the bounds of the space; [-0.5, 1.5]
    where a coordinate is an expert's weight.

    Args:
        archive: Archive of the active task; only its solutions' shape matters.
        spec: What the run provides.
        population: Solutions per generation; the first one omits experts beyond it.
        sigma: Standard deviation of the first generation's noise (1 is an expert's whole weight).
        margin: How far the box reaches beyond base and experts, in units of coordinates.

    Raises:
        ConfigError: The library is missing, the search has one task only, or an option is out of
            bounds.
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
        if spec.n_scores < 1:
            raise ConfigError(
                "NSGA-II looks for trade-offs between tasks, and this search has one task; use "
                "CMA-ES or random search"
            )
        need("pymoo", "NSGA-II")
        self._batch_size = population
        self._sigma = sigma
        seeds = np.stack(list(self._space.seeds.values())).astype(float)
        self._low = np.maximum(seeds.min(axis=0) - margin, self.lower_bounds)
        self._high = np.minimum(seeds.max(axis=0) + margin, self.upper_bounds)
        self._algorithm: Any = None
        self._asked: Any = None

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the ``(dim,)`` lower and upper ends of the box."""
        return self._low, self._high

    def first_generation(self) -> np.ndarray:
        """Return the ``(population, dim)`` solutions that the search starts from."""
        rng = np.random.default_rng([self._seed, 0])
        noise = rng.normal(0.0, self._sigma, (self._batch_size, self._space.dim))
        first = np.clip(self._space.x0 + noise, self._low, self._high)
        known = self._known()[: self._batch_size]
        first[: len(known)] = known
        return first

    def _start(self) -> Any:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination

        problem = Problem(
            n_var=self._space.dim, n_obj=self._n_scores + 1, xl=self._low, xu=self._high
        )
        algorithm = NSGA2(pop_size=self._batch_size, sampling=self.first_generation())
        return algorithm.setup(problem, seed=self._seed, termination=NoTermination())

    def ask(self) -> np.ndarray:
        """Return ``(batch_size, dim)`` solutions of the next generation."""
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
        """Take the scores of the last generation: of the active task, then of the others."""
        from pymoo.core.evaluator import Evaluator
        from pymoo.problems.static import StaticProblem

        scored = StaticProblem(self._algorithm.problem, F=-self._scores(objective, measures))
        Evaluator().eval(scored, self._asked)
        self._algorithm.tell(infills=self._asked)


def resource_shares(scores: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Return the ``(n, J)`` shares of resources: ``s_ij c_j / z_j`` with ``z_j = sum_i s_ij``, or 0
    if no model can use it. Scores s are at least 0. The sum over j is a model's fitness.
    """
    total = scores.sum(axis=0)
    return scores * (capacity / np.where(total > 0, total, 1.0))


def attraction(shares: np.ndarray, first: int) -> np.ndarray:
    """Return how much each model could add to the model in row ``first``, ``(n,)``: the sum over
    resources of what it gets more, ``max(s_ij - s_first,j, 0) c_j / z_j``.
    """
    gain: np.ndarray = np.maximum(shares - shares[first], 0).sum(axis=1)
    return gain


def merge_at_split(first: np.ndarray, second: np.ndarray, split: int, ratio: float) -> np.ndarray:
    """Return ``(1 - w) a + w b`` before coordinate ``split`` and ``w a + (1 - w) b`` after it."""
    w = np.where(np.arange(len(first)) < split, ratio, 1 - ratio)
    return (1 - w) * first + w * second


@checked
class M2N2Emitter(BaselineEmitter):
    """Merges complementary models of a population that competes for items (arXiv 2508.16204).

    The validation items are resources, shared in proportion to the scores on them, so a model
    lives on what others cannot do. The first parent is drawn in proportion to its fitness (the sum
    of its shares), the second one to how much it could add where it is better. The child mixes
    them with one ratio before a split point and its complement after it, both drawn uniformly. It
    joins the population, and the least fit model leaves a full one. This follows the paper and its
    public code (github.com/SakanaAI/natural_niches), except:

    - Coordinates are mixed linearly; the paper uses SLERP on weights, which no space expresses
      exactly. Coordinates are in the order of the model's tensors (space ``expert``: of the
      experts), so a split of coordinates splits the model's parameters.
    - The items of a task have capacity 1 together, so that tasks count alike. In a domain without
      items, the task scores are the resources.
    - The first batch is the experts, as in the paper, and the plain average, which the other
      searches start from.

    Scores below 0 count as 0. A failed model never joins; in a domain without items it joins with
    its batch's worst scores.

    Args:
        archive: Archive of the active task; only its solutions' shape matters.
        spec: What the run provides.
        population: Models that compete; 20 in the public code.
        sigma: Standard deviation of Gaussian mutation per coordinate; 0 is the paper's choice for
            trained models.
        batch_size: Children per ask after the first one.

    Raises:
        ConfigError: An option out of bounds.
    """

    uses_items = True

    def __init__(
        self,
        archive: ArchiveBase,
        spec: EmitterSpec,
        *,
        population: Annotated[int, Field(ge=2)] = 20,
        sigma: Annotated[float, Field(ge=0)] = 0.0,
        batch_size: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        super().__init__(archive, spec)
        self._population = population
        self._sigma = sigma
        self._batch_size = batch_size
        self._asks = 0
        self._models = np.empty((0, self._space.dim))
        self._resources = np.empty((0, 0))
        self._capacity: np.ndarray | None = None
        self._tasks: tuple[str, ...] = ()  # the order of items; empty where scores are resources
        self._parents: np.ndarray | None = None

    @property
    def parents(self) -> np.ndarray | None:
        """Return the ``(batch_size, 2, dim)`` parents of the last children; None at first."""
        return self._parents

    @property
    def population(self) -> np.ndarray:
        """Return the ``(n, dim)`` models of the population, oldest first."""
        return self._models

    def ask(self) -> np.ndarray:
        """Return the average and the experts first, then ``(batch_size, dim)`` children."""
        if not len(self._models):
            return self._solutions(self._known())
        rng = np.random.default_rng([self._seed, self._asks])
        self._asks += 1
        assert self._capacity is not None
        shares = resource_shares(self._resources, self._capacity)
        fitness = shares.sum(axis=1)
        pairs, children = [], []
        for _ in range(self._batch_size):
            first = _draw(fitness, rng)
            attractive = attraction(shares, first)
            if not attractive.any():  # better than all others at everything
                attractive = np.where(np.arange(len(fitness)) == first, 0, fitness)
            second = _draw(attractive, rng)
            split, ratio = int(rng.integers(self._space.dim)), rng.uniform()
            child = merge_at_split(self._models[first], self._models[second], split, ratio)
            children.append(child + rng.normal(0.0, self._sigma, len(child)))
            pairs.append([first, second])
        self._parents = self._solutions(self._models[pairs])
        return self._solutions(np.stack(children))

    def tell(
        self,
        solution: np.ndarray,
        objective: np.ndarray,
        measures: np.ndarray,
        add_info: dict[str, np.ndarray],
        items: Sequence[Mapping[str, np.ndarray] | None] | None = None,
        **fields: np.ndarray,
    ) -> None:
        """Take the results of a batch, one model after the other.

        Args:
            solution: ``(n, dim)`` solutions.
            objective: ``(n,)`` scores on the active task.
            measures: ``(n, >= K - 1)``, of which the first are the other tasks' scores.
            add_info: pyribs' report of what entered the archive; unused.
            items: Per solution, task name to ``(n_items,)`` scores; None where it failed or the
                domain has none.
            **fields: Unused.
        """
        items = items or [None] * len(solution)
        scores = self._scores(objective, measures)
        if self._capacity is None:
            self._choose_resources(scores, items)
        for x, row, details in zip(solution, scores, items, strict=True):
            if not self._tasks:
                self._join(x, row)
            elif details is not None:
                self._join(x, np.concatenate([details[task] for task in self._tasks]))

    def _choose_resources(
        self, scores: np.ndarray, items: Sequence[Mapping[str, np.ndarray] | None]
    ) -> None:
        """Choose items if the first batch has any, else task scores; a task has capacity 1."""
        known = next((details for details in items if details), {})
        self._tasks = tuple(known)
        sizes = [len(known[task]) for task in self._tasks] or [1] * scores.shape[1]
        self._capacity = np.repeat(1 / np.array(sizes), sizes)
        self._resources = np.empty((0, len(self._capacity)))

    def _join(self, x: np.ndarray, resources: np.ndarray) -> None:
        """Add a model; the least fit (of equals the oldest) leaves a full population."""
        assert self._capacity is not None
        self._models = np.vstack([self._models, x])
        self._resources = np.vstack([self._resources, np.maximum(resources, 0)])
        if len(self._models) > self._population:
            fitness = resource_shares(self._resources, self._capacity).sum(axis=1)
            stay = np.arange(len(fitness)) != fitness.argmin()
            self._models, self._resources = self._models[stay], self._resources[stay]


def _draw(weights: np.ndarray, rng: np.random.Generator) -> int:
    """Draw an index in proportion to the weights; any index if all are zero."""
    total = weights.sum()
    return int(rng.choice(len(weights), p=weights / total if total > 0 else None))
