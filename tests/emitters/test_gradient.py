"""Emitters that follow gradients: pyribs' own benchmark, steps in units, failures, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qdmerge_toy import ToyBackend, ToyConfig
from ribs.archives import ArchiveBase, GridArchive
from ribs.emitters import (
    EmitterBase,
    GaussianEmitter,
    GradientArborescenceEmitter,
    GradientOperatorEmitter,
)
from ribs.schedulers import Scheduler

from qdmerge import CycleQD
from qdmerge.archives import grid
from qdmerge.backend import Evaluation
from qdmerge.emitters import EmitterSpec, GradientArborescence, GradientOperator
from qdmerge.errors import ConfigError, UnsupportedError
from qdmerge.guide import Slopes
from qdmerge.schedulers import CycleScheduler
from qdmerge.spaces import VectorSpace
from qdmerge.testing._shared import TASKS, archive_spec, scores_of, slopes_of

DIM = 10
ROUNDS = 30


def sphere(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """pyribs' benchmark (examples/sphere.py): objective, two measures and the Jacobian."""
    shift, bound = 5.12 * 0.4, 5.12
    worst = (-bound - shift) ** 2 * DIM
    objective = (worst - ((x - shift) ** 2).sum(axis=1)) / worst * 100
    outside = np.abs(x) > bound
    inverse = 1 / np.where(outside, x, 1.0)
    clipped = np.where(outside, bound * inverse, x)
    slope = np.where(outside, -bound * inverse**2, 1.0)
    half = DIM // 2
    first = np.arange(DIM) < half
    measures = np.stack([clipped[:, first].sum(axis=1), clipped[:, ~first].sum(axis=1)], axis=1)
    jacobian = np.stack([-200 / worst * (x - shift), slope * first, slope * ~first], axis=1)
    return objective, measures, jacobian


def sphere_grid() -> ArchiveBase:
    reach = 5.12 * DIM / 2
    return GridArchive(solution_dim=DIM, dims=[20, 20], ranges=[(-reach, reach)] * 2, seed=3)


def annealed_grid() -> ArchiveBase:
    reach = 5.12 * DIM / 2
    options: dict[str, Any] = {"learning_rate": 0.1, "threshold_min": 0.0, "seed": 3}
    return GridArchive(solution_dim=DIM, dims=[20, 20], ranges=[(-reach, reach)] * 2, **options)


def arborescence(archive: ArchiveBase, seed: int) -> EmitterBase:
    return GradientArborescenceEmitter(
        archive, x0=np.zeros(DIM), sigma0=1.0, lr=0.05, batch_size=6, seed=seed
    )


def ascent(archive: ArchiveBase, seed: int) -> EmitterBase:
    return GradientArborescenceEmitter(
        archive, x0=np.zeros(DIM), sigma0=10.0, lr=1.0, grad_opt="gradient_ascent", seed=seed
    )


def operator(archive: ArchiveBase, seed: int) -> EmitterBase:
    return GradientOperatorEmitter(
        archive,
        x0=np.zeros(DIM),
        sigma=0.1,
        sigma_g=1.0,
        measure_gradients=True,
        normalize_grad=True,
        batch_size=5,
        seed=seed,
    )


def gaussian(archive: ArchiveBase, seed: int) -> EmitterBase:
    return GaussianEmitter(archive, sigma=0.3, x0=np.zeros(DIM), batch_size=4, seed=seed)


@pytest.mark.parametrize("make_archive", [sphere_grid, annealed_grid])
@pytest.mark.parametrize(
    "makers",
    [[arborescence], [ascent], [operator], [gaussian, operator, ascent, arborescence]],
    ids=["cma_mega_adam", "cma_mega", "omg_mega", "mixed"],
)
def test_one_task_with_two_measures_equals_the_scheduler_of_pyribs(
    makers: list[Callable[..., EmitterBase]], make_archive: Callable[[], ArchiveBase]
) -> None:
    ours, theirs = make_archive(), make_archive()
    scheduler = CycleScheduler(
        {"sphere": ours}, {"sphere": [make(ours, n) for n, make in enumerate(makers)]}
    )
    expected = Scheduler(theirs, [make(theirs, n) for n, make in enumerate(makers)])
    for _ in range(ROUNDS):
        for asked, told in (("ask_dqd", "tell_dqd"), ("ask", "tell")):
            batch, x = scheduler.ask(), getattr(expected, asked)()
            np.testing.assert_array_equal(batch.solutions, x)
            objective, measures, jacobian = sphere(x)
            dqd = asked == "ask_dqd"
            assert [type(one) for one in batch.errands] == [Slopes] * len(batch) * dqd
            more = [jacobian.copy()] if dqd else []  # pyribs scales it in place
            getattr(expected, told)(objective, measures, *more)
            scheduler.tell(batch, objective[:, None], measures, jacobians=jacobian if dqd else None)
    assert len(theirs) > 20
    for name, array in ours.data().items():
        np.testing.assert_array_equal(array, theirs.data()[name], err_msg=name)
    assert ours.stats == theirs.stats


class Units(VectorSpace):
    """Coordinates of very different sizes; powers of two, so that scaling them is exact."""

    factors: np.ndarray

    @property
    def units(self) -> np.ndarray:
        return self.factors


@pytest.mark.parametrize(
    "make",
    [
        lambda archive, spec: GradientArborescence(archive, spec, batch_size=4),
        lambda archive, spec: GradientArborescence(
            archive, spec, sigma0=0.1, grad_opt="adam", lr=0.05
        ),
        lambda archive, spec: GradientOperator(archive, spec, sigma=0.05, batch_size=3),
        lambda archive, spec: GradientOperator(archive, spec, line_sigma=0.2, batch_size=2),
        lambda archive, spec: GradientOperator(archive, spec, measure_gradients=False),
    ],
    ids=["arborescence", "adam", "operator", "line", "objective_only"],
)
def test_steps_are_in_units(make: Callable[..., EmitterBase]) -> None:
    """Solutions are those of the problem whose coordinates count in units, scaled back."""
    factors = np.array([2.0**-6, 1.0, 2.0**4, 0.5])

    def played(factors: np.ndarray) -> list[np.ndarray]:
        seeds = {"base": np.zeros(4)} | dict(zip(TASKS, np.eye(3, 4) * factors, strict=True))
        space = Units(seeds, experts=TASKS)
        space.factors = factors
        archives = {task: grid(archive_spec(space, task)) for task in TASKS}
        emitters = {
            task: [make(archives[task], EmitterSpec(task, task, space, 2, 4))] for task in TASKS
        }
        scheduler = CycleScheduler(archives, emitters)
        scheduler.offer(np.eye(3, 4) * factors, scores_of(np.eye(3, 4)))
        found = []
        for _ in range(16):
            batch = scheduler.ask()
            z = batch.solutions / factors
            found.append(z)
            scheduler.tell(batch, scores_of(z), jacobians=slopes_of(z) / factors)
        return found

    for z, expected in zip(played(factors), played(np.ones(4)), strict=True):
        np.testing.assert_allclose(z, expected, rtol=1e-3, atol=1e-5)


def test_a_weight_is_the_mean_step_of_a_coordinate() -> None:
    space = VectorSpace({"base": np.zeros(400)})
    archive = grid(archive_spec(space), bins=5)
    emitter = GradientOperator(
        archive, EmitterSpec("coding", None, space, 2, 0), sigma_g=0.1, measure_gradients=False
    )
    x = emitter.ask_dqd()
    jacobian = np.random.default_rng(0).normal(size=(1, 3, 400)) * 1e-25
    emitter.tell_dqd(x, [0.5], [[0.5, 0.5]], jacobian=jacobian, add_info={})
    step = emitter.ask() - x
    assert np.sqrt(np.mean(step**2)) == pytest.approx(0.1)
    assert np.corrcoef(step[0], jacobian[0, 0])[0, 1] == pytest.approx(1)


def arborescence_of(archive: ArchiveBase, spec: EmitterSpec) -> EmitterBase:
    return GradientArborescence(archive, spec, batch_size=3, slopes_batch=6)


def test_a_search_asks_for_slopes_then_for_children() -> None:
    backend = ToyBackend(ToyConfig(n_measures=1))
    search = CycleQD(backend, emitters=[arborescence_of])
    assert search.guided
    search.tell(seeds := search.ask(), search.evaluate(seeds))
    turns = []
    for _ in range(6):
        batch = search.ask()
        turns.append((batch.task, len(batch)))
        evaluation = search.evaluate(batch)
        if batch.errands:
            assert batch.errands == (Slopes(6, seed=batch.id),)
            assert evaluation.jacobians.shape == (1, 4, 4)
            with pytest.raises(ValueError, match="told with the Jacobians"):
                search.tell(batch, backend.evaluate(batch.solutions, "validation"))
            with pytest.raises(ValueError, match=r"jacobians of shape \(1, 3, 4\); expected"):
                search.tell(
                    batch,
                    Evaluation(
                        evaluation.scores,
                        evaluation.measures,
                        jacobians=evaluation.jacobians[:, :3],
                    ),
                )
        search.tell(batch, evaluation)
    assert turns == [(f"task{k}", n) for k in range(3) for n in (1, 3)]


def operator_of(archive: ArchiveBase, spec: EmitterSpec) -> EmitterBase:
    return GradientOperator(archive, spec, batch_size=2)


@pytest.mark.parametrize("make", [arborescence_of, operator_of])
def test_with_several_batches_out_a_turn_is_ended_before_another_begins(make: Any) -> None:
    search = CycleQD(ToyBackend(ToyConfig()), emitters=[make])
    search.tell(seeds := search.ask(), search.evaluate(seeds))
    first, second = search.ask(), search.ask()
    assert [first.task, second.task] == ["task0", "task1"]
    search.tell(second, search.evaluate(second))
    children = search.ask()
    assert (children.task, children.errands) == ("task1", ())
    assert search.ask().task == "task2"
    assert not search.ready


@pytest.mark.parametrize("failed", ["scores", "jacobians"])
def test_what_failed_leads_nowhere(failed: str) -> None:
    search = CycleQD(ToyBackend(ToyConfig()), emitters=[arborescence_of])
    search.tell(seeds := search.ask(), search.evaluate(seeds))
    point = search.ask()
    evaluation = search.evaluate(point)
    getattr(evaluation, failed)[0, 0] = np.nan
    before = {task: len(archive) for task, archive in search.archives.items()}
    search.tell(point, evaluation)
    assert before == {task: len(archive) for task, archive in search.archives.items()}
    children = search.ask()
    assert children.task == point.task
    np.testing.assert_array_equal(children.solutions, np.repeat(point.solutions, 3, axis=0))
    evaluation = search.evaluate(children)
    evaluation.scores[:] = np.nan
    search.tell(children, evaluation)
    while (again := search.ask()).task != point.task:
        search.tell(again, search.evaluate(again))
    # It begins anew at an elite.
    assert again.solutions[0].tobytes() in {e.x.tobytes() for e in search.elites(point.task)}


@pytest.mark.parametrize("make", [arborescence_of, lambda a, s: arborescence(a, 0)])
def test_a_domain_without_gradients_is_refused_before_anything_is_evaluated(make: Any) -> None:
    with pytest.raises(UnsupportedError, match="ToyBackend has no guide"):
        CycleQD(ToyBackend(ToyConfig(has_guide=False, dim=DIM)), emitters=[make])
    backend = ToyBackend(ToyConfig(n_measures=2, dim=DIM))
    backend.guide = type("Guide", (), {"sizes": {}})()
    with pytest.raises(UnsupportedError, match=r"own measures \(x0, x1\).*measure_gradients"):
        CycleQD(backend, emitters=[make])


@pytest.mark.parametrize("options", [{"sigma0": 0}, {"lr": -1}, {"grad_opt": "sgd"}])
def test_options_out_of_bounds(options: dict[str, Any]) -> None:
    space = VectorSpace({"base": np.zeros(4)})
    with pytest.raises(ConfigError, match=next(iter(options))):
        GradientArborescence(
            grid(archive_spec(space)), EmitterSpec("coding", None, space, 2, 0), **options
        )
