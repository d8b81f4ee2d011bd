"""MergeEmitter as a pyribs emitter, on its own and in a stock pyribs scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ribs.archives import ArchiveBase, CVTArchive, DNSArchive, GridArchive
from ribs.emitters import EmitterBase, GaussianEmitter
from ribs.schedulers import Scheduler

from qdmerge.emitters import MergeEmitter
from qdmerge.errors import ConfigError
from qdmerge.operators import (
    EliteSelection,
    GaussianMutation,
    LinearCrossover,
    NoCrossover,
    NoMutation,
    UniformSelection,
)

DIM = 3


def archive(elites: int = 6, dtype: type = np.float64, seed: int = 0) -> GridArchive:
    made = GridArchive(
        solution_dim=DIM, dims=[20, 20], ranges=[(0, 1)] * 2, solution_dtype=dtype, seed=seed
    )
    rng = np.random.default_rng(seed)
    if elites:
        x, measures = rng.normal(size=(elites, DIM)), rng.uniform(size=(elites, 2))
        made.add(x, rng.uniform(size=elites), measures)
    return made


def emitter(on: GridArchive, **changes: Any) -> MergeEmitter:
    options: dict[str, Any] = {
        "selection": EliteSelection(),
        "crossover": LinearCrossover(),
        "mutation": GaussianMutation(0.1),
        "batch_size": 4,
        "seed": 1,
    }
    return MergeEmitter(on, **(options | changes))


def test_it_works_in_a_stock_scheduler() -> None:
    """Ordinary MAP-Elites of pyribs, with merging and Gaussian variation side by side."""
    made = archive(2)
    emitters = [emitter(made), GaussianEmitter(made, sigma=0.3, x0=[0.0] * DIM, batch_size=3)]
    scheduler = Scheduler(made, emitters)
    before = made.stats.qd_score
    for _ in range(15):
        solutions = scheduler.ask()
        assert solutions.shape == (7, DIM)
        scheduler.tell(-np.sum(solutions**2, axis=1) + 10, 1 / (1 + np.exp(-solutions[:, :2])))
    assert made.stats.num_elites > 5
    assert made.stats.qd_score > before
    assert isinstance(emitters[0], EmitterBase)


def test_children_are_merges_of_the_recorded_parents() -> None:
    made = archive()
    merging = emitter(made, crossover=LinearCrossover(0), mutation=NoMutation(), batch_size=10)
    assert merging.parents is None
    children = merging.ask()
    assert merging.parents is not None
    assert merging.parents.shape == (10, 2, DIM)
    np.testing.assert_allclose(children, merging.parents.mean(axis=1))
    elites = made.data("solution")
    for parent in merging.parents.reshape(-1, DIM):
        assert (elites == parent).all(axis=1).any()


def test_one_parent_crossover() -> None:
    merging = emitter(archive(), crossover=NoCrossover(), mutation=NoMutation())
    children = merging.ask()
    assert merging.parents is not None
    np.testing.assert_array_equal(children, merging.parents[:, 0])


@pytest.mark.parametrize(("n_scores", "columns"), [(None, 3), (1, 2), (0, 1)])
def test_selection_sees_quality_first_then_the_scores(n_scores: int | None, columns: int) -> None:
    """And no measure beyond the ``n_scores`` first ones."""
    seen = []

    def spy(scores: np.ndarray, groups: int, parents: int, rng: np.random.Generator) -> np.ndarray:
        seen.append(scores)
        return UniformSelection()(scores, groups, parents, rng)

    made = archive()
    emitter(made, selection=spy, n_scores=n_scores).ask()
    data = made.data(["objective", "measures"])
    everything = np.column_stack([data["objective"], data["measures"]])
    np.testing.assert_array_equal(seen[0], everything[:, :columns])


def test_an_empty_archive_is_an_error_that_says_what_to_do() -> None:
    merging = emitter(archive(0))
    with pytest.raises(RuntimeError, match="archive is empty: add solutions"):
        merging.ask()


def test_a_single_elite_is_enough() -> None:
    made = archive(1)
    merging = emitter(made)
    children = merging.ask()
    assert merging.parents is not None
    expected = np.broadcast_to(made.data("solution"), (4, 2, DIM))
    np.testing.assert_array_equal(merging.parents, expected)
    assert len(np.unique(children, axis=0)) == 4


def test_bounds_are_respected() -> None:
    lower, upper = np.array([-0.1, -np.inf, 0.2]), np.array([0.1, 0.0, np.inf])
    bounds = {"lower_bounds": lower, "upper_bounds": upper}
    merging = emitter(archive(), mutation=GaussianMutation(5), batch_size=50, **bounds)
    children = merging.ask()
    assert (children >= lower).all()
    assert (children <= upper).all()
    for column, bound in ((0, 0.1), (0, -0.1), (1, 0.0), (2, 0.2)):
        assert (children[:, column] == bound).any()


def test_a_batch_depends_on_its_number_and_the_archive_alone() -> None:
    """Not on what earlier batches drew: with other operators before, the third one is the same."""
    made = archive()
    small, large = emitter(made), emitter(made, batch_size=9, mutation=NoMutation())
    for _ in range(2):
        small.ask()
        large.ask()
    large._batch_size, large._mutation = small._batch_size, small._mutation
    np.testing.assert_array_equal(small.ask(), large.ask())


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="MergeEmitter: 'batch_size': Input should .* 1 .got 0"):
        emitter(archive(), batch_size=0)


def test_merging_finds_what_lies_between_the_experts(
    toy: Callable[..., Any], evolve: Callable[..., Any]
) -> None:
    """The paper's emitter on three bumps: a merge is better at its worst task than any expert."""
    from qdmerge.search import CycleQD

    search = evolve(CycleQD(toy(), seed=3), 60)
    experts = [search.seed_scores[name].min() for name in search.tasks]
    elites = [min(elite.scores.values()) for elite in search.elites("task0")]
    assert max(elites) > 3 * max(experts)


class Listed(ArchiveBase):
    """An archive of one's own that keeps no store: its elites are lists."""

    def __init__(self, of: GridArchive) -> None:
        super().__init__(solution_dim=of.solution_dim, objective_dim=(), measure_dim=2)
        self._of = of

    empty = property(lambda self: self._of.empty)
    dtypes = property(lambda self: self._of.dtypes)

    def data(self, fields: Any = None, return_type: Any = None) -> Any:
        return self._of.data(fields, return_type)


@pytest.mark.parametrize(
    "make",
    [
        lambda kept: kept,
        Listed,
        lambda kept: filled(
            DNSArchive(solution_dim=DIM, measure_dim=2, capacity=4, k_neighbors=2), kept
        ),
        lambda kept: filled(CVTArchive(solution_dim=DIM, centroids=9, ranges=[(0, 1)] * 2), kept),
    ],
    ids=["grid", "own", "dns", "cvt"],
)
def test_parents_are_elites_by_their_places(make: Callable[[GridArchive], ArchiveBase]) -> None:
    """Only the chosen rows are read, and they are those that reading all would give."""
    kept = make(archive())
    chosen = np.array([[0, 1], [2, 0], [1, 1]])
    made = emitter(kept, selection=lambda *_: chosen, batch_size=3)
    made.ask()
    np.testing.assert_array_equal(made.parents, kept.data("solution")[chosen])


def filled(empty: ArchiveBase, like: GridArchive) -> ArchiveBase:
    empty.add(**like.data(["solution", "objective", "measures"]))
    return empty
