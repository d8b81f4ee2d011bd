"""The front door: seeds first, then children; archives, elites and the aggregate."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import qdmerge as qm
from qdmerge.archives import AxisSizing, grid
from qdmerge.backend import Evaluation, GenomeBackend, Measure, Task
from qdmerge.errors import ConfigError, EvaluationError, UnsupportedError
from qdmerge.operators import EliteSelection, LinearCrossover, SVDMutation
from qdmerge.schedulers import Batch, CycleScheduler, FixedScheduler
from qdmerge.search import CycleQD
from qdmerge.spaces import VectorSpace

Toy = Callable[..., Any]


def score(search: CycleQD, batch: Batch) -> Evaluation:
    return search.backend.evaluate(batch.solutions, "validation")


def content(search: CycleQD) -> dict[str, Any]:
    return {
        task: {name: array.tolist() for name, array in archive.data().items()}
        for task, archive in search.archives.items()
    }


class Table(GenomeBackend):
    """A backend whose scores are looked up: coordinate 0 of x is the row of a table."""

    def __init__(self, rows: list[list[float]], n_measures: int = 0, experts: int = 2) -> None:
        k = len(rows[0]) - n_measures
        self.rows = np.array(rows)
        self.tasks = [Task(name) for name in ("coding", "db", "os")[:k]]
        self.measures = [Measure(f"m{i}", (0, 1)) for i in range(n_measures)]
        names = [task.name for task in self.tasks[:experts]]
        seeds = {name: [float(i), 0.5] for i, name in enumerate(["base", *names])}
        self.space = VectorSpace(seeds, experts=names)

    def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
        found = self.rows[xs[:, 0].astype(int)]
        k = len(self.tasks)
        return Evaluation(found[:, :k], found[:, k:] if self.measures else None)


def test_the_first_batch_holds_the_seeds(toy: Toy) -> None:
    search = CycleQD(toy())
    assert search.ready
    batch = search.ask()
    assert batch.task is None
    assert batch.names == ("base", "task0", "task1", "task2")
    for name, x in zip(batch.names, batch.solutions, strict=True):
        np.testing.assert_array_equal(x, search.backend.space.seeds[name])
    assert not search.ready
    assert search.tell(batch, score(search, batch)) == {}
    assert search.ready
    expected = score(search, batch).scores
    for row, (name, scores) in enumerate(search.seed_scores.items()):
        assert name == batch.names[row]
        np.testing.assert_array_equal(scores, expected[row])
    assert search.ask().task == "task0"


def test_experts_are_the_first_elites_and_the_base_is_none(toy: Toy) -> None:
    search = CycleQD(toy())
    batch = search.ask()
    search.tell(batch, score(search, batch))
    for task in search.tasks:
        assert len(search.archives[task]) == 3
        stored = {tuple(elite.x) for elite in search.elites(task)}
        assert stored == {tuple(search.backend.space.seeds[name]) for name in search.tasks}


def test_archives_are_sized_from_the_experts_only() -> None:
    """Whatever the base scores."""
    backend = Table([[0.01, 0.99], [0.5, 0.2], [0.3, 0.6]])
    search = CycleQD(backend)
    batch = search.ask()
    search.tell(batch, score(search, batch))
    coding, db = search.archives["coding"], search.archives["db"]
    assert (coding.lower_bounds[0], coding.upper_bounds[0]) == pytest.approx((0.17, 0.69))
    assert (db.lower_bounds[0], db.upper_bounds[0]) == pytest.approx((0.255, 0.575))
    assert coding.dims.tolist() == [15]


def test_without_experts_all_seeds_size_the_archives() -> None:
    backend = Table([[0.1, 0.2], [0.5, 0.6]], experts=0)
    backend.space = VectorSpace({"one": [0.0, 0.0], "two": [1.0, 0.0]})
    search = CycleQD(backend)
    batch = search.ask()
    search.tell(batch, score(search, batch))
    assert search.archives["db"].lower_bounds[0] == pytest.approx(0.085)
    assert len(search.archives["db"]) == 2


def test_experts_that_score_nothing_still_give_valid_axes(toy: Toy, evolve: Toy) -> None:
    search = evolve(CycleQD(toy(flat=True)), 6)
    for archive in search.archives.values():
        assert archive.lower_bounds.tolist() == [0, 0]
        assert archive.upper_bounds.tolist() == [1, 1]


def test_elites_scores_belong_to_the_right_tasks() -> None:
    """In every archive, wherever its own column is, and the own measures apart."""
    backend = Table([[0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]], n_measures=1)
    search = CycleQD(backend, axes=AxisSizing(ranges={"m0": (0.0, 2.0)}))
    batch = search.ask()
    search.tell(batch, score(search, batch))
    for task in ("coding", "db", "os"):
        elites = sorted(search.elites(task), key=lambda elite: elite.x[0])
        assert [elite.scores for elite in elites] == [
            {"coding": 0.1, "db": 0.2, "os": 0.3},
            {"coding": 0.5, "db": 0.6, "os": 0.7},
        ]
        assert [elite.measures.tolist() for elite in elites] == [[0.4], [0.8]]
        assert search.archives[task].upper_bounds[-1] == 2


def test_elites_reproduce_their_scores(toy: Toy, evolve: Toy) -> None:
    search = evolve(CycleQD(toy(n_measures=2), seed=4), 20)
    for task in search.tasks:
        elites = search.elites(task)
        assert len(elites) == len(search.archives[task]) > 6
        evaluated = search.backend.evaluate(np.stack([elite.x for elite in elites]), "validation")
        for elite, scores, measures in zip(
            elites, evaluated.scores, evaluated.measures, strict=True
        ):
            assert list(elite.scores.items()) == list(
                zip(search.tasks, scores.tolist(), strict=True)
            )
            np.testing.assert_array_equal(elite.measures, measures)


def test_best_by_quality_and_by_mean() -> None:
    backend = Table([[0, 0], [0.9, 0.1], [0.2, 0.8], [0.8, 0.7]])
    search = CycleQD(backend)
    batch = search.ask()
    search.tell(batch, score(search, batch))
    extra = np.array([[3.0, 0.0]])
    search.scheduler.offer(extra, backend.evaluate(extra, "validation").scores)
    assert search.best("coding").scores == {"coding": 0.9, "db": 0.1}
    assert search.best("db").scores == {"coding": 0.2, "db": 0.8}
    assert search.best("coding", by="mean").scores == {"coding": 0.8, "db": 0.7}
    with pytest.raises(ValueError, match="'quality' or 'mean'; got 'max'"):
        search.best("coding", by="max")
    with pytest.raises(KeyError, match="shell"):
        search.best("shell")


@pytest.mark.parametrize("elite", ["quality", "mean"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_aggregate_is_the_paper_s(toy: Toy, evolve: Toy, elite: Any, scale: float) -> None:
    """Softmax of the qualities of each archive's best elite, from the archives' raw data."""
    search = evolve(CycleQD(toy(), seed=2), 30)
    chosen = []
    for archive in search.archives.values():
        data = archive.data()
        value = data["objective"]
        if elite == "mean":
            value = value + data["measures"].sum(axis=1)
        best = int(np.argmax(value))
        chosen.append((float(data["objective"][best]), data["solution"][best]))
    total = sum(math.exp(quality) for quality, _ in chosen)
    expected = sum(scale * math.exp(quality) / total * x for quality, x in chosen)
    np.testing.assert_allclose(search.aggregate(elite, scale), expected, rtol=1e-12)


def test_a_scaled_aggregate_stays_within_the_bounds(toy: Toy, evolve: Toy) -> None:
    search = evolve(CycleQD(toy()), 20)
    assert np.abs(search.aggregate("mean", scale=1e6)).tolist() == [2] * 4


def test_one_seed_decides_everything(toy: Toy, evolve: Toy) -> None:
    first, again, other = (evolve(CycleQD(toy(), seed=seed), 15) for seed in (7, 7, 8))
    assert content(first) == content(again)
    assert content(first) != content(other)
    np.testing.assert_array_equal(first.aggregate(), again.aggregate())


@pytest.mark.usefixtures("no_global_randomness")
def test_batches_in_flight_are_told_as_they_come(toy: Toy) -> None:
    """Three batches out at once, told in a mixed order: the same again, and nothing lost."""

    def search() -> dict[str, Any]:
        made = CycleQD(toy(), seed=1)
        seeds = made.ask()
        made.tell(seeds, score(made, seeds))
        out, told = [], []
        for turn in range(24):
            while len(out) < 3:
                out.append(made.ask())
            batch = out.pop(turn % 3)
            made.tell(batch, score(made, batch))
            told.append(batch.id)
        assert sorted(told + [batch.id for batch in out]) == list(range(26))
        assert made.scheduler.out == [batch.id for batch in out]
        return content(made)

    assert search() == search()


def test_the_order_of_ask_and_tell_is_enforced(toy: Toy) -> None:
    search = CycleQD(toy())
    for early in (lambda: search.archives, lambda: search.scheduler, search.aggregate):
        with pytest.raises(RuntimeError, match="sized from the seeds' scores: ask"):
            early()
    other = CycleQD(toy())
    foreign = other.ask()
    with pytest.raises(ValueError, match="not asked for yet"):
        search.tell(foreign, score(search, foreign))
    seeds = search.ask()
    with pytest.raises(RuntimeError, match="sized from the seeds' scores"):
        search.ask()
    search.tell(seeds, score(search, seeds))
    with pytest.raises(ValueError, match="told already"):
        search.tell(seeds, score(search, seeds))
    batch = search.ask()
    search.tell(batch, score(search, batch))
    with pytest.raises(ValueError, match="batch 0 is not out"):
        search.tell(batch, score(search, batch))


def test_a_seed_that_fails_is_named_and_can_be_told_again(toy: Toy) -> None:
    search = CycleQD(toy())
    seeds = search.ask()
    bad = score(search, seeds).scores.copy()
    bad[[0, 2], 1] = [np.nan, np.inf]
    with pytest.raises(EvaluationError, match="base, task1 could not be evaluated"):
        search.tell(seeds, Evaluation(bad))
    search.tell(seeds, score(search, seeds))
    assert search.ready


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (Evaluation(np.zeros((4, 2))), r"scores of shape \(4, 2\); expected .*tasks\) = \(4, 3\)"),
        (Evaluation(np.zeros((3, 3))), r"expected \(models, tasks\) = \(4, 3\)"),
        (Evaluation(np.zeros((4, 3)), np.zeros((4, 1))), r"measures of shape \(4, 1\).*\(4, 0\)"),
        (Evaluation(np.zeros((4, 3)), None, [{}]), "per-item scores of 1 models; expected 4"),
    ],
)
def test_an_evaluation_of_a_wrong_shape_is_refused(
    toy: Toy, evaluation: Evaluation, message: str
) -> None:
    search = CycleQD(toy())
    seeds = search.ask()
    with pytest.raises(EvaluationError, match=message):
        search.tell(seeds, evaluation)


def test_a_child_that_fails_enters_no_archive(toy: Toy, evolve: Toy) -> None:
    search = evolve(CycleQD(toy()), 4)
    before = content(search)
    batch = search.ask()
    status = search.tell(batch, Evaluation(np.full((len(batch), 3), np.nan)))
    assert list(status) == search.tasks
    assert all(added.tolist() == [0] for added in status.values())
    assert content(search) == before
    assert search.ready


def test_domains_that_cannot_be_searched_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="'coding' is the only task.*return measures"):
        CycleQD(Table([[0.0], [0.5]]))
    backend = Table([[0.0, 0.0]] * 3)
    backend.tasks = [Task("coding"), Task("db", expert="sql")]
    with pytest.raises(ConfigError, match="'db' names expert 'sql'.*coding, db"):
        CycleQD(backend)


def test_a_part_that_does_not_fit_is_refused_before_anything_is_evaluated(toy: Toy) -> None:
    def svd(archive: Any, spec: qm.EmitterSpec) -> qm.MergeEmitter:
        return qm.MergeEmitter(
            archive,
            selection=EliteSelection(),
            crossover=LinearCrossover(),
            mutation=SVDMutation(spec.space, spec.expert),
        )

    with pytest.raises(UnsupportedError, match="use space 'spectral'"):
        CycleQD(toy(), emitters=[svd])
    with pytest.raises(ConfigError, match="bins must be"):
        CycleQD(toy(), archive=functools.partial(grid, bins=[4]))
    with pytest.raises(ConfigError, match="unknown task"):
        CycleQD(toy(), scheduler=functools.partial(FixedScheduler, task="nobody"))
    with pytest.raises(ConfigError, match="unknown task or measure 'tsk0'; did you mean 'task0'"):
        CycleQD(toy(), axes=AxisSizing(ranges={"tsk0": (0, 1)}))


def test_objects_and_factories_in_python(toy: Toy, evolve: Toy) -> None:
    """The parts that were passed are the parts in use."""

    def bold(archive: Any, spec: qm.EmitterSpec) -> qm.MergeEmitter:
        assert spec.n_scores == 2
        assert spec.expert == spec.task
        return qm.MergeEmitter(
            archive,
            selection=EliteSelection(),
            crossover=LinearCrossover(0.5),
            mutation=lambda children, rng: children + rng.normal(size=children.shape),
            batch_size=2,
            seed=spec.seed,
        )

    search = evolve(
        CycleQD(
            toy(),
            archive=functools.partial(grid, bins=4),
            emitters=[bold, bold],
            scheduler=functools.partial(CycleScheduler, interval=2),
        ),
        3,
    )
    assert [archive.dims.tolist() for archive in search.archives.values()] == [[4, 4]] * 3
    batch = search.ask()
    assert (batch.id, batch.task, len(batch)) == (3, "task1", 4)
    seeds = {e._seed for listed in search.scheduler.emitters.values() for e in listed}
    assert len(seeds) == 6, "every emitter has a seed of its own"


def test_a_start_is_evaluated_right_after_the_seeds(toy: Toy) -> None:
    backend = toy()
    start = np.stack([backend.space.merge([w] * 3) for w in (0.2, 0.4)])
    search = CycleQD(backend, start=lambda *_: (step for step in [(start, ())]), seed=1)
    seeds = search.ask()
    search.tell(seeds, backend.evaluate(seeds.solutions, "validation"))
    first = search.ask()
    assert np.array_equal(first.solutions, start)
    search.tell(first, backend.evaluate(first.solutions, "validation"))
    assert any(np.array_equal(elite.x, x) for x in start for elite in search.elites("task0"))
    assert len(search.ask()) == 1
