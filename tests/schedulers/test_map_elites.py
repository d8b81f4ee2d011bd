"""One task with two measures of its own is ordinary MAP-Elites, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ribs.archives import ArchiveBase, CVTArchive, GridArchive
from ribs.emitters import (
    EmitterBase,
    EvolutionStrategyEmitter,
    GaussianEmitter,
    GeneticAlgorithmEmitter,
    IsoLineEmitter,
)
from ribs.schedulers import Scheduler

from qdmerge.archives import ArchiveSpec
from qdmerge.emitters import EmitterSpec, MergeEmitter
from qdmerge.operators import EliteSelection, GaussianMutation, LinearCrossover
from qdmerge.schedulers import BanditScheduler, CycleScheduler, FixedScheduler
from qdmerge.search import CycleQD

GENERATIONS = 35


def gaussian(archive: ArchiveBase, x0: np.ndarray, seed: int) -> EmitterBase:
    return GaussianEmitter(archive, sigma=0.3, x0=x0, batch_size=5, seed=seed)


def iso_line(archive: ArchiveBase, x0: np.ndarray, seed: int) -> EmitterBase:
    return IsoLineEmitter(
        archive, iso_sigma=0.2, x0=x0, batch_size=4, lower_bounds=x0 - 2, seed=seed
    )


def strategy(archive: ArchiveBase, x0: np.ndarray, seed: int) -> EmitterBase:
    return EvolutionStrategyEmitter(archive, x0=x0, sigma0=0.2, batch_size=6, seed=seed)


def by_direction(archive: ArchiveBase, x0: np.ndarray, seed: int) -> EmitterBase:
    return EvolutionStrategyEmitter(
        archive, x0=x0, sigma0=0.2, ranker="2rd", selection_rule="mu", batch_size=6, seed=seed
    )


def genetic(archive: ArchiveBase, x0: np.ndarray, seed: int) -> EmitterBase:
    return GeneticAlgorithmEmitter(
        archive, operator="gaussian", operator_kwargs={"sigma": 0.1}, x0=x0, batch_size=3, seed=seed
    )


def merging(archive: ArchiveBase, x0: np.ndarray, seed: int) -> EmitterBase:
    return MergeEmitter(
        archive,
        selection=EliteSelection(),
        crossover=LinearCrossover(),
        mutation=GaussianMutation(),
        n_scores=0,
        batch_size=3,
        seed=seed,
    )


EMITTERS = {
    "gaussian": [gaussian],
    "iso_line": [iso_line],
    "es": [strategy],
    "es_twice": [strategy, by_direction],
    "all": [gaussian, strategy, iso_line, merging, genetic, by_direction],
}


def grid(spec: ArchiveSpec) -> ArchiveBase:
    return GridArchive(dims=[12, 9], ranges=spec.ranges, **spec.storage)


def cvt(spec: ArchiveSpec) -> ArchiveBase:
    centroids = np.random.default_rng(spec.seed).uniform(-1.5, 1.5, size=(40, 2))
    return CVTArchive(centroids=centroids, ranges=spec.ranges, **spec.storage)


def annealed(spec: ArchiveSpec) -> ArchiveBase:
    """The archive of CMA-MAE."""
    return GridArchive(
        dims=[8, 8], ranges=spec.ranges, learning_rate=0.1, threshold_min=0.0, **spec.storage
    )


@pytest.mark.parametrize("make_archive", [grid, cvt, annealed], ids=lambda f: f.__name__)
@pytest.mark.parametrize("makers", EMITTERS.values(), ids=list(EMITTERS))
def test_the_archive_equals_that_of_pyribs(
    makers: list[Callable[..., EmitterBase]],
    make_archive: Callable[[ArchiveSpec], ArchiveBase],
    toy: Callable[..., Any],
    evolve: Callable[..., Any],
) -> None:
    backend = toy(n_tasks=1, n_measures=2)
    specs: list[ArchiveSpec] = []
    seeds: list[list[int]] = [[] for _ in makers]

    def archive_factory(spec: ArchiveSpec) -> ArchiveBase:
        specs.append(spec)
        return make_archive(spec)

    def emitter_factory(n: int) -> Callable[[ArchiveBase, EmitterSpec], EmitterBase]:
        def make(archive: ArchiveBase, spec: EmitterSpec) -> EmitterBase:
            seeds[n].append(spec.seed)
            return makers[n](archive, spec.space.x0, spec.seed)

        return make

    ours = evolve(
        CycleQD(
            backend,
            archive=archive_factory,
            emitters=[emitter_factory(n) for n in range(len(makers))],
            seed=5,
        ),
        GENERATIONS,
    ).archives["task0"]

    theirs = make_archive(specs[-1])
    experts = np.stack([backend.space.seeds[name] for name in backend.space.experts])
    evaluated = backend.evaluate(experts, "validation")
    theirs.add(experts, evaluated.scores[:, 0], evaluated.measures)
    scheduler = Scheduler(
        theirs,
        [make(theirs, backend.space.x0, s[-1]) for make, s in zip(makers, seeds, strict=True)],
    )
    for _ in range(GENERATIONS):
        evaluated = backend.evaluate(scheduler.ask(), "validation")
        scheduler.tell(evaluated.scores[:, 0], evaluated.measures)

    assert len(theirs) > 3
    expected = theirs.data()
    for name, array in ours.data().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert ours.stats == theirs.stats


@pytest.mark.parametrize("scheduler", [CycleScheduler, BanditScheduler, FixedScheduler])
def test_with_one_task_every_scheduler_is_the_same(
    scheduler: type, toy: Callable[..., Any], evolve: Callable[..., Any]
) -> None:
    backend = toy(n_tasks=1, n_measures=2)
    expected = evolve(CycleQD(backend), 10).archives["task0"].data()
    found = evolve(CycleQD(backend, scheduler=scheduler), 10).archives["task0"].data()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
