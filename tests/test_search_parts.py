"""What a search takes and refuses: batches, archives of the user's own, parts that do not fit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import ribs.schedulers
from ribs.archives import CVTArchive, DensityArchive, DNSArchive, GridArchive, ProximityArchive
from ribs.emitters import EmitterBase, EvolutionStrategyEmitter, GaussianEmitter

import qdmerge as qm
from qdmerge.archives import ArchiveSpec, grid
from qdmerge.errors import ConfigError, EvaluationError, Hint, QDMergeError, UnsupportedError
from qdmerge.operators import EliteSelection, GaussianMutation, LinearCrossover
from qdmerge.schedulers import CycleScheduler, FixedScheduler
from qdmerge.search import CycleQD

Toy = Callable[..., Any]


def told_seeds(search: CycleQD) -> CycleQD:
    seeds = search.ask()
    search.tell(seeds, search.evaluate(seeds))
    return search


def content(search: CycleQD) -> list[Any]:
    return [archive.data("solution").tolist() for archive in search.archives.values()]


# Batches


def told_twice(search: CycleQD, other: CycleQD) -> Any:
    batch = search.ask()
    search.tell(batch, search.evaluate(batch))
    return batch


FOREIGN: dict[str, Callable[[CycleQD, CycleQD], Any]] = {
    "of another search": lambda search, other: (search.ask(), other.ask())[1],
    "other solutions": lambda search, other: replace(search.ask(), solutions=np.zeros((1, 4))),
    "more solutions": lambda search, other: replace(search.ask(), solutions=np.zeros((3, 4))),
    "another task": lambda search, other: replace(search.ask(), task="task2"),
    "an unknown number": lambda search, other: replace(search.ask(), id=99),
    "told already": told_twice,
    "another search's seeds": lambda search, other: CycleQD(search.backend).ask(),
    "no batch": lambda search, other: search.ask().solutions,
}


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=list(FOREIGN))
def test_tell_takes_only_what_is_out(foreign: Callable[..., Any], toy: Toy) -> None:
    search, other = (told_seeds(CycleQD(toy(), seed=seed)) for seed in (1, 2))
    batch = foreign(search, other)
    before, out = content(search), search.scheduler.out
    with pytest.raises(ValueError, match=r"told already|asked for|not out|takes the batch"):
        search.tell(batch, qm.Evaluation(np.ones((len(batch), 3))))
    assert (content(search), search.scheduler.out) == (before, out)


def test_solutions_that_changed_on_the_way_are_refused(toy: Toy) -> None:
    search = told_seeds(CycleQD(toy()))
    batch = search.ask()
    evaluation = search.evaluate(batch)
    asked = batch.solutions.copy()
    batch.solutions[:] += 1
    with pytest.raises(ValueError, match="other solutions"):
        search.tell(batch, evaluation)
    search.tell(replace(batch, solutions=asked), evaluation)  # equal ones are as good


def test_seeds_are_those_of_this_search(toy: Toy) -> None:
    search = CycleQD(toy())
    seeds = search.ask()
    for other in (replace(seeds, solutions=seeds.solutions + 1), replace(seeds, names=("a",) * 4)):
        with pytest.raises(ValueError, match="not the seeds of this search"):
            search.tell(other, search.evaluate(other))
    told = search.evaluate(seeds)
    seeds.solutions[:] = 7  # the search has its own copy
    with pytest.raises(ValueError, match="not the seeds"):
        search.tell(seeds, told)


def test_a_backend_that_changes_what_it_is_given_changes_nothing_else(toy: Toy) -> None:
    backend = toy()
    scored = backend.evaluate

    def careless(xs: np.ndarray, split: str) -> qm.Evaluation:
        found = scored(xs, split)
        xs[:] = 0
        return found

    backend.evaluate = careless
    search = told_seeds(CycleQD(backend))
    batch = search.ask()
    search.tell(batch, search.evaluate(batch))
    assert batch.solutions.any()


@pytest.mark.parametrize("returned", [None, np.ones((1, 3)), [0.5] * 3, (np.ones((1, 3)), None)])
def test_what_is_no_evaluation_is_told_in_a_sentence(returned: Any, toy: Toy) -> None:
    backend = toy()
    backend.evaluate = lambda xs, split: returned
    search = CycleQD(backend)
    seeds = search.ask()
    with pytest.raises(EvaluationError, match=r"ToyBackend.evaluate\(\) returned.*must return a"):
        search.evaluate(seeds)
    with pytest.raises(EvaluationError, match=r"tell\(\) takes a qdmerge.Evaluation"):
        search.tell(seeds, returned)


# Archives of the user's own


def warm(spec: ArchiveSpec) -> GridArchive:
    return GridArchive(dims=[4] * len(spec.axes), ranges=[(0, 1)] * len(spec.axes), **spec.storage)


@pytest.mark.parametrize("n_tasks", [1, 3])
def test_archives_are_made_once_and_hold_real_scores_only(n_tasks: int, toy: Toy) -> None:
    made: list[Any] = []

    def factory(spec: ArchiveSpec) -> GridArchive:
        made.append(grid(spec, bins=5))
        return made[-1]

    backend = toy(n_tasks=n_tasks, n_measures=2 if n_tasks == 1 else 0)
    search = CycleQD(backend, archive=factory, emitters=["cma_es", "gaussian"])
    assert all(archive.empty for archive in made)
    search.run(9)
    assert [id(archive) for archive in made] == [id(one) for one in search.archives.values()]
    for task in search.tasks:
        elites = search.elites(task)
        scores = backend.evaluate(np.stack([elite.x for elite in elites]), "validation").scores
        np.testing.assert_allclose([list(elite.scores.values()) for elite in elites], scores)


def test_archives_that_hold_elites_are_a_warm_start(toy: Toy) -> None:
    """They keep their elites, parents come from them, and the best of them is known."""
    backend = toy()
    first = CycleQD(backend, archive=warm, seed=1)
    first.run(30)
    before = {task: len(archive) for task, archive in first.archives.items()}
    second = CycleQD(backend, archive=lambda spec: first.archives[spec.task], seed=2)
    assert {task: len(archive) for task, archive in first.archives.items()} == before
    told_seeds(second)
    assert second.archives == first.archives
    for task in second.tasks:
        assert second.best(task).scores[task] == first.best(task).scores[task]
    second.run(20)
    assert all(len(second.archives[task]) >= before[task] for task in before)


# Parts that do not fit


class Dead(EmitterBase):
    def __init__(self, archive: Any, made: Any) -> None:
        super().__init__(archive, solution_dim=4, bounds=None, lower_bounds=None, upper_bounds=None)
        self.made = made

    def ask(self) -> Any:
        return self.made


def es(**options: Any) -> Any:
    return lambda archive, spec: EvolutionStrategyEmitter(
        archive, x0=spec.space.x0, sigma0=0.1, batch_size=4, **options
    )


def merging(**operators: Any) -> Any:
    parts = {
        "selection": EliteSelection(),
        "crossover": LinearCrossover(),
        "mutation": GaussianMutation(),
    }
    return lambda archive, spec: qm.MergeEmitter(archive, **{**parts, **operators})


class Wide(LinearCrossover):
    def __call__(self, parents: np.ndarray, rng: Any) -> np.ndarray:
        return parents[:, 0, :2]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "ranker without novelty": ({"emitters": [{"name": "cma_es", "ranker": "nov"}]}, "novelty"),
    "ranker without density": (
        {"emitters": [{"name": "cma_es", "ranker": "density"}], "archive": "proximity"},
        "density",
    ),
    "ranker without competition": (
        {
            "emitters": [{"name": "cma_es", "ranker": "nslc"}],
            "archive": {"name": "proximity", "local_competition": False},
        },
        "local competition",
    ),
    "ranker nslc_classic": (
        {"emitters": [{"name": "cma_es", "ranker": "nslc_classic"}], "archive": "proximity"},
        "genotypic diversity",
    ),
    "ranker without bounds": (
        {"emitters": [{"name": "cma_es", "ranker": "2rd"}], "archive": "dns"},
        "DNSArchive has none",
    ),
    "unknown ranker": ({"emitters": [es(ranker="bst")]}, "emitter of task 'task0'.*`bst`"),
    "unknown es": ({"emitters": [es(es="cmaes")]}, "emitter of task 'task0'.*`cmaes`"),
    "unknown task": (
        {"scheduler": {"name": "fixed", "task": "task9"}},
        "unknown task 'task9'; did you mean",
    ),
    "axes": ({"archive": {"name": "grid", "bins": [4]}}, "archive grid: bins must be"),
    "axes of pyribs": (
        {"archive": {"name": "ribs.archives:GridArchive", "dims": [4, 4, 4]}},
        "archive of task 'task0'.*same length",
    ),
    "mutation": ({"emitters": [merging(mutation=lambda x, rng: x[0])]}, "mutation.*shape"),
    "mutation of nothing": ({"emitters": [merging(mutation=lambda x, rng: None)]}, "None"),
    "crossover": ({"emitters": [merging(crossover=Wide())]}, "crossover.*shape"),
    "selection": (
        {"emitters": [merging(selection=lambda scores, n, p, rng: np.zeros(n, int))]},
        "selection.*shape",
    ),
    "solutions": ({"emitters": [lambda a, spec: Dead(a, np.ones((2, 3)))]}, r"shape \(n, 4\)"),
    "no emitter": ({"emitters": [lambda archive, spec: None]}, "returned None"),
    "batch size": ({"emitters": [{"name": "lm_ma_es", "batch_size": 9}]}, "emitter of task"),
    "class as emitter": ({"emitters": [GaussianEmitter]}, "the class GaussianEmitter"),
    "class as archive": ({"archive": CVTArchive}, "the class CVTArchive"),
    "object as archive": (
        {"archive": GridArchive(solution_dim=4, dims=[3, 3], ranges=[(0, 1)] * 2)},
        "an object of type GridArchive",
    ),
    "misspelt archive": ({"archive": "gird"}, "unknown archive 'gird'; did you mean 'grid'"),
    "number as emitters": ({"emitters": 3}, "emitters must be a list; got an object of type int"),
    "pyribs' scheduler": ({"scheduler": ribs.schedulers.Scheduler}, "one archive.*'cycle'"),
    "pyribs' bandit": ({"scheduler": "ribs.schedulers:BanditScheduler"}, "chooses among tasks"),
    "no scheduler": ({"scheduler": lambda archives, emitters: None}, "returned None"),
    "axes of a wrong kind": ({"axes": {"task0": (0, 1)}}, "axes must be a qdmerge.AxisSizing"),
    "start": ({"start": np.zeros((2, 4))}, "start must be a generator function"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_work_is_refused_before_anything_is_evaluated(
    options: dict[str, Any], message: str, toy: Toy
) -> None:
    with pytest.raises(QDMergeError, match=message) as caught:
        CycleQD(toy(), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", [None, 3, qm.GenomeBackend, "toy"])
def test_what_is_no_backend_is_told_in_a_sentence(backend: Any) -> None:
    with pytest.raises(ConfigError, match="backend must be an object with tasks"):
        CycleQD(backend)


ONE = GridArchive(solution_dim=4, dims=[3, 3], ranges=[(0, 1)] * 2)
WRONG_ARCHIVES: dict[str, tuple[Callable[[ArchiveSpec], Any], str]] = {
    "axes": (lambda spec: GridArchive(dims=[3], ranges=[(0, 1)], **spec.storage), "1 measures"),
    "coordinates": (
        lambda spec: DNSArchive(solution_dim=9, measure_dim=2, capacity=9, k_neighbors=1),
        "9 coordinates",
    ),
    "no elites": (lambda spec: DensityArchive(measure_dim=2), "keeps no elites"),
    "nothing": (lambda spec: None, "returned None"),
    "its error": (lambda spec: grid(spec, bins=[2]), "bins must be"),
    "one for all": (
        lambda spec: ONE,
        "the same archive",
    ),
    "fields": (
        lambda spec: GridArchive(
            dims=[3, 3], ranges=spec.ranges, extra_fields={"mass": ((), float)}, **spec.storage
        ),
        "extra fields.*mass",
    ),
}


@pytest.mark.parametrize(("factory", "message"), WRONG_ARCHIVES.values(), ids=list(WRONG_ARCHIVES))
@pytest.mark.parametrize("known", [True, False], ids=["axes known", "axes from scores"])
def test_archives_that_do_not_fit_are_named(
    factory: Callable[..., Any], message: str, known: bool, toy: Toy
) -> None:
    """Before anything is evaluated, or, where axes depend on scores, once the seeds are told."""
    ranges = dict.fromkeys(("task0", "task1", "task2"), (0.0, 1.0)) if known else {}
    axes = qm.AxisSizing(ranges=ranges)
    make = partial(CycleQD, toy(), archive=factory, axes=axes)
    search = None if known else make()
    with pytest.raises((ConfigError, UnsupportedError), match=message) as caught:
        make() if search is None else told_seeds(search)
    assert "archive" in str(caught.value)


# Archives that drop the best


@pytest.mark.parametrize(
    "archive",
    [
        {"name": "grid", "bins": 2, "learning_rate": 0.1, "threshold_min": 0.0},
        {"name": "grid", "bins": 2, "learning_rate": 0.0, "threshold_min": 0.0},
        {"name": "grid", "learning_rate": 0.1, "threshold_min": 2.0},
        {"name": "cvt", "centroids": 4, "learning_rate": 0.1, "threshold_min": 0.0},
        {"name": "sliding", "bins": 2, "remap": 3, "buffer": 4},
        {"name": "dns", "capacity": 2},
        {"name": "proximity", "novelty_threshold": 0.9},
        lambda spec: ProximityArchive(
            measure_dim=2, k_neighbors=2, novelty_threshold=0.5, **spec.storage
        ),
    ],
)
def test_the_best_model_is_kept_beside_its_archive(archive: Any, toy: Toy) -> None:
    backend = toy()
    search = CycleQD(backend, archive=archive, emitters=["gaussian", "cma_es"])
    best = dict.fromkeys(search.tasks, -np.inf)
    for turn in range(12):
        batch = search.ask()
        evaluation = search.evaluate(batch)
        search.tell(batch, evaluation)
        rows = evaluation.scores if turn else evaluation.scores[1:]  # the base enters no archive
        for column, task in enumerate(search.tasks):
            best[task] = max(best[task], rows[:, column].max())
            found = search.best(task)
            assert found.scores[task] == best[task]
            scores = backend.evaluate(found.x[None], "validation").scores[0]
            np.testing.assert_allclose(list(found.scores.values()), scores)


# In Python as on the command line


def test_parts_by_name_are_those_of_text(toy: Toy) -> None:
    named = CycleQD(
        toy(),
        archive={"name": "cvt", "centroids": 20, "samples": 60},
        emitters=["merge", {"name": "gaussian", "sigma": 0.2}],
        scheduler="bandit",
    )
    from qdmerge.runs import build_search
    from qdmerge.settings import parse_config

    config = parse_config(
        {
            "backend": "toy",
            "archive": {"name": "cvt", "centroids": 20, "samples": 60},
            "emitters": ["merge", {"name": "gaussian", "sigma": 0.2}],
            "scheduler": "bandit",
        }
    )
    text = build_search(config, toy())
    assert content(named.run(15)) == content(text.run(15))
    assert "archive 'cvt', centroids=20" in repr(named)
    assert "task0: " in repr(named)


def test_run_tells_seeds_children_and_progress(toy: Toy, capsys: Any) -> None:
    seen: list[int] = []
    one = CycleQD(toy(), emitters="cma_es")
    one.run(9, progress=True, callback=lambda search: seen.append(len(search.elites("task0"))))
    assert len(seen) == 3  # seeds, and two batches of six
    assert "/9" in capsys.readouterr().err
    other = CycleQD(toy(), emitters="cma_es").run(6).run(6)
    assert content(one) == content(other)
    stopped = CycleQD(toy()).run(50, callback=lambda search: len(search.elites("task0")) > 3)
    assert len(stopped.elites("task0")) == 4


def test_elites_as_a_frame(toy: Toy) -> None:
    search = CycleQD(toy(n_measures=1)).run(8)
    frame = search.elites_frame()
    assert list(frame.columns) == ["archive", "task0", "task1", "task2", "x0", "x"]
    for task, rows in frame.groupby("archive"):
        assert rows[task].max() == search.best(task).scores[task]
        assert len(rows) == len(search.elites(task))
        assert rows.x.iloc[0].shape == (4,)


def test_searches_and_factories_can_be_pickled(toy: Toy) -> None:
    options = {"archive": "cvt", "emitters": ["merge", "iso_line"], "scheduler": "cycle"}
    for parts in (options, {"archive": partial(grid, bins=4)}):
        search = CycleQD(toy(), **parts).run(4)
        again = pickle.loads(pickle.dumps(search))
        assert content(again.run(4)) == content(search.run(4))


def test_a_scheduler_of_one_s_own_gets_a_seed(toy: Toy) -> None:
    class Drawing(CycleScheduler):
        def __init__(self, archives: Any, emitters: Any, seed: int) -> None:
            super().__init__(archives, emitters)
            self.rng = np.random.default_rng(seed)

        def choose(self, ready: Any) -> str:
            return str(self.rng.choice(list(ready)))

    def chosen(seed: int) -> list[str | None]:
        search = told_seeds(CycleQD(toy(), scheduler=Drawing, seed=seed))
        return [search.ask().task for _ in range(12)]

    assert chosen(1) == chosen(1) != chosen(2)
    assert told_seeds(CycleQD(toy(), scheduler=partial(FixedScheduler, task="task2"))).ask()


def test_a_score_beyond_its_range_is_told_once(toy: Toy) -> None:
    backend = toy()
    backend.tasks = [replace(task, range=(0, 0.5)) for task in backend.tasks]
    with pytest.warns(Hint, match="score on task 'task0' is 1, beyond its range") as told:
        CycleQD(backend).run(6)
    assert sum(issubclass(one.category, Hint) for one in told) == 3


RANGES = [((0, 1), 1.0, 0.0), ((0, 100), 100.0, 0.0), ((-5, -4), 1.0, -5.0)]
UNBOUNDED = [((-np.inf, np.inf), 1e6, -3e5), ((0, np.inf), 1e6, 0.0), ((-np.inf, 0), 1.0, -9.0)]


@pytest.mark.parametrize(("limits", "factor", "shift"), RANGES + UNBOUNDED)
@pytest.mark.parametrize("elite", ["quality", "mean"])
def test_the_aggregate_does_not_depend_on_the_units_of_a_score(
    limits: Any, factor: float, shift: float, elite: Any, toy: Toy
) -> None:
    """Scores in other units give the aggregate of scores in (0, 1); unbounded ones go by seeds."""
    backend = toy()
    plain = told_seeds(CycleQD(backend, archive="dns"))
    more = np.random.default_rng(3).normal([0.3, 0, 0, 0], 0.05, (6, 4))
    plain.scheduler.offer(more, backend.evaluate(more, "validation").scores)
    found = [plain.best(task, by=elite) for task in plain.tasks]
    scores = np.array([best.scores[task] for task, best in zip(plain.tasks, found, strict=True)])
    if not np.isfinite(limits).all():
        seeds = np.stack(list(plain.seed_scores.values()))
        scores = (scores - seeds.min(axis=0)) / np.ptp(seeds, axis=0)
    shares = np.exp(scores) / np.exp(scores).sum()
    expected = shares @ np.stack([best.x for best in found])
    scored = backend.evaluate
    backend.evaluate = lambda xs, split: qm.Evaluation(scored(xs, split).scores * factor + shift)
    backend.tasks = [replace(task, range=limits) for task in backend.tasks]
    search = told_seeds(CycleQD(backend, archive="dns"))
    search.scheduler.offer(more, backend.evaluate(more, "validation").scores)
    np.testing.assert_allclose(search.aggregate(elite), expected, rtol=1e-9, atol=1e-12)


def test_the_factory_of_spaces_can_be_imported() -> None:
    from qdmerge.backend import SpaceFactory

    assert SpaceFactory
