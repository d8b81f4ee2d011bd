"""MergeEmitter: selection, crossover and mutation as a pyribs emitter."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field
from ribs.archives import ArchiveBase, ArrayStore
from ribs.emitters import EmitterBase

from qdmerge.errors import ConfigError, described, kind_of
from qdmerge.guide import Climb
from qdmerge.operators import Crossover, Mutation, Selection
from qdmerge.options import checked


def _check_shape(kind: str, operator: object, made: object, shape: tuple[int, ...]) -> None:
    """Raise ConfigError if what an operator returned is no array of a shape."""
    got = f"shape {made.shape}" if isinstance(made, np.ndarray) else kind_of(made)
    if got != f"shape {shape}":
        raise ConfigError(
            f"{kind} {described(operator)} must return an array of shape {shape}, and returned "
            f"{got}"
        )


def _solutions(archive: ArchiveBase, chosen: np.ndarray) -> np.ndarray:
    """Return the solutions of elites by their places in :meth:`ArchiveBase.data`; all of them are
    read only where the archive does not keep them in an :class:`ArrayStore`.
    """
    store = getattr(archive, "_store", None)
    if isinstance(store, ArrayStore):
        places = archive.data("index")[chosen.ravel()]
        _, found = store.retrieve(places, ["solution"])
        return found["solution"].reshape(*chosen.shape, -1)
    solutions: np.ndarray = archive.data("solution")[chosen]
    return solutions


@checked
class MergeEmitter(EmitterBase):
    """CycleQD's variation: children of an archive's elites by merging.

    Args:
        archive: Archive of the active task; parents come from it.
        selection: Chooses parents.
        crossover: Merges the parents of a child.
        mutation: Varies the child.
        n_scores: Number of leading measures that are task scores, which selection may look at;
            None for all.
        batch_size: Children per ask.
        lower_bounds: ``(dim,)`` lower bounds of solutions; children are clipped. None for none.
        upper_bounds: ``(dim,)`` upper bounds.
        seed: Seed; each ask draws from a generator of its own, spawned from (seed, number of ask).

    Raises:
        ConfigError: ``batch_size`` is not positive.
    """

    def __init__(
        self,
        archive: ArchiveBase,
        *,
        selection: Selection,
        crossover: Crossover,
        mutation: Mutation,
        n_scores: int | None = None,
        batch_size: Annotated[int, Field(ge=1)] = 1,
        lower_bounds: ArrayLike | None = None,
        upper_bounds: ArrayLike | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            archive,
            solution_dim=archive.solution_dim,
            bounds=None,
            lower_bounds=lower_bounds,
            upper_bounds=upper_bounds,
        )
        self._selection = selection
        self._crossover = crossover
        self._mutation = mutation
        self._n_scores = archive.measure_dim if n_scores is None else n_scores
        self._batch_size = batch_size
        self._seed = seed
        self._asks = 0
        self._parents: np.ndarray | None = None
        self.errands: list[Climb] | None = None
        """What to ask of the guide for each of the last children; None where nothing."""

    def __repr__(self) -> str:
        return (
            f"MergeEmitter({self._selection}, {self._crossover}, {self._mutation}, "
            f"batch_size={self._batch_size}, seed={self._seed})"
        )

    @property
    def batch_size(self) -> int:
        """Children per ask."""
        return self._batch_size

    @property
    def parents(self) -> np.ndarray | None:
        """``(batch_size, parents, dim)`` parents of the last children; None before the first."""
        return self._parents

    def ask(self) -> np.ndarray:
        """Make ``(batch_size, dim)`` children.

        Raises:
            RuntimeError: The archive is empty.
            ConfigError: An operator returns another shape than it should.
        """
        if self.archive.empty:
            raise RuntimeError(
                "MergeEmitter needs parents, but its archive is empty: add solutions (the experts) "
                "first, or, where it takes none of them, lower its threshold_min"
            )
        rng = np.random.default_rng([self._seed, self._asks])
        self._asks += 1
        elites = self.archive.data(["objective", "measures"])
        scores = np.column_stack([elites["objective"], elites["measures"][:, : self._n_scores]])
        n, shape = self._batch_size, (self._batch_size, self.archive.solution_dim)
        chosen = self._selection(scores, n, self._crossover.parents, rng)
        _check_shape("selection", self._selection, chosen, (n, self._crossover.parents))
        self._parents = _solutions(self.archive, chosen)
        children = self._crossover(self._parents, rng)
        _check_shape("crossover", self._crossover, children, shape)
        children = self._mutation(children, rng)
        _check_shape("mutation", self._mutation, children, shape)
        if guided := getattr(self._mutation, "errands", None):
            self.errands = guided(len(children), rng)
        return np.clip(children, self.lower_bounds, self.upper_bounds)
