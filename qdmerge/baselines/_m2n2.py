"""M2N2, model merging of natural niches, as a pyribs emitter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from qdmerge.baselines._emitter import BaselineEmitter

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.emitters import EmitterSpec


def resource_shares(scores: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """What each model of a population gets of every resource.

    Resource j is divided in proportion to the scores: ``s_ij c_j / z_j`` with ``z_j = sum_i s_ij``,
    and nothing of a resource that no model can use. The sum over j is a model's fitness.

    Args:
        scores: ``(n, J)`` scores s of at least 0.
        capacity: ``(J,)`` capacities c.

    Returns:
        ``(n, J)`` shares.
    """
    total = scores.sum(axis=0)
    return scores * (capacity / np.where(total > 0, total, 1.0))


def attraction(shares: np.ndarray, first: int) -> np.ndarray:
    """How much every model could add to the first parent.

    ``g_i = sum_j max(s_ij - s_first,j, 0) c_j / z_j``: where the other is better, on resources few
    can use. Zero for the parent itself, and for any model that is better nowhere.

    Args:
        shares: ``(n, J)``, see :func:`resource_shares`.
        first: Row of the first parent.

    Returns:
        ``(n,)`` attractions.
    """
    gain: np.ndarray = np.maximum(shares - shares[first], 0).sum(axis=1)
    return gain


def merge_at_split(first: np.ndarray, second: np.ndarray, split: int, ratio: float) -> np.ndarray:
    """Mixes two models with one ratio before a split point, and its complement from there on.

    ``(1 - w) a + w b`` for coordinates before ``split``, ``w a + (1 - w) b`` for the others.
    """
    w = np.where(np.arange(len(first)) < split, ratio, 1 - ratio)
    return (1 - w) * first + w * second


class M2N2Emitter(BaselineEmitter):
    """Merges complementary models of a population that competes for items (arXiv 2508.16204).

    The validation items are resources, shared in proportion to the scores on them
    (:func:`resource_shares`), so a model lives on what others cannot do. The first parent is drawn
    in proportion to fitness, the second one to :func:`attraction`, the child is
    :func:`merge_at_split` with split point and ratio drawn uniformly; then the child joins, and
    where there are too many the least fit leaves. So in the paper and its public code
    (github.com/SakanaAI/natural_niches), except:

    - Coordinates are mixed linearly, where the paper uses SLERP on weights: linear merges are what
      a space expresses exactly. Coordinates are in the order of the model's tensors (space
      ``expert``: of the experts), so a split of coordinates is one of the model's parameters; the
      tensor it falls into is divided between experts or components.
    - All items of a task have capacity 1 together, so that no task counts more for having more
      items. Where the domain has no items, the task scores are the resources.
    - The population starts from the experts, as in the paper, and the plain average, which the
      other searches are given too. They are the first batch, so that their items are told; no
      other batch depends on the archive.

    Scores below 0 count as 0, and a model that failed never joins (in a domain without items it
    joins with its batch's worst scores).

    Args:
        archive: Archive of the active task; only its solutions' shape matters.
        spec: What the run provides.
        population: Models that compete; 20 in the public code.
        sigma: Standard deviation of Gaussian mutation per coordinate; 0, none, is the paper's
            choice where models were trained.
        batch_size: Children per ask, but for the first one.

    Raises:
        ValueError: ``population`` below 2, negative ``sigma``, or ``batch_size`` below 1.
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
        if population < 2:
            raise ValueError(f"population must be at least 2; got {population}")
        if not sigma >= 0:
            raise ValueError(f"sigma must be at least 0; got {sigma}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
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
    def batch_size(self) -> int:
        """Children per ask, but for the first one."""
        return self._batch_size

    @property
    def parents(self) -> np.ndarray | None:
        """``(batch_size, 2, dim)`` parents of the last asked children; None for the first batch."""
        return self._parents

    @property
    def population(self) -> np.ndarray:
        """``(n, dim)`` models that compete now, oldest first."""
        return self._models

    def ask(self) -> np.ndarray:
        """The average and the experts first, then ``(batch_size, dim)`` children."""
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
        """Gives the results of a batch, one model after the other.

        Args:
            solution: ``(n, dim)`` solutions.
            objective: ``(n,)`` scores on the active task.
            measures: ``(n, >= K - 1)``, of which the first are the other tasks' scores.
            add_info: pyribs' report of what entered the archive; unused.
            items: Per solution, task name to ``(n_items,)`` scores; None where it failed, or
                where the domain has none.
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
        """Items, if the first batch has any, else task scores; a task has capacity 1."""
        known = next((details for details in items if details), {})
        self._tasks = tuple(known)
        sizes = [len(known[task]) for task in self._tasks] or [1] * scores.shape[1]
        self._capacity = np.repeat(1 / np.array(sizes), sizes)
        self._resources = np.empty((0, len(self._capacity)))

    def _join(self, x: np.ndarray, resources: np.ndarray) -> None:
        """Adds a model; if there are too many, the least fit (of equals the oldest) leaves."""
        assert self._capacity is not None
        self._models = np.vstack([self._models, x])
        self._resources = np.vstack([self._resources, np.maximum(resources, 0)])
        if len(self._models) > self._population:
            fitness = resource_shares(self._resources, self._capacity).sum(axis=1)
            stay = np.arange(len(fitness)) != fitness.argmin()
            self._models, self._resources = self._models[stay], self._resources[stay]


def _draw(weights: np.ndarray, rng: np.random.Generator) -> int:
    """An index in proportion to the weights; any index where all are zero."""
    total = weights.sum()
    return int(rng.choice(len(weights), p=weights / total if total > 0 else None))
