"""Every part of the installed pyribs works, by name and by object, or is refused with the reason.

The table of the documentation is what this finds: ``QDMERGE_WRITE=1`` writes it anew.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ribs.archives
import ribs.emitters
import ribs.emitters.opt
import ribs.emitters.rankers
import ribs.schedulers

import qdmerge as qm
from qdmerge.errors import QDMergeError
from qdmerge.search import CycleQD

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "pyribs.md"
Toy = Callable[..., Any]

ARCHIVES: dict[str, tuple[Any, dict[str, Any]]] = {
    "GridArchive": ("grid", {"dims": [12, 12], "ranges": None}),
    "CVTArchive": (
        {"name": "cvt", "centroids": 80, "samples": 400},
        {"centroids": 80, "samples": 400, "ranges": None},
    ),
    "DNSArchive": ("dns", {"measure_dim": 2, "capacity": 20, "k_neighbors": 3}),
    "SlidingBoundariesArchive": ("sliding", {"dims": [12, 12], "ranges": None}),
    "ProximityArchive": (
        "proximity",
        {"measure_dim": 2, "k_neighbors": 3, "novelty_threshold": 0.05},
    ),
    "DensityArchive": ("density", {"measure_dim": 2}),
    "CategoricalArchive": ("categorical", {"categories": [["a"], ["b"]]}),
    "DiscountArchive": ("discount", {}),
}
BAYESIAN: dict[str, Any] = {"num_initial_samples": 24, "search_nrestarts": 1, "batch_size": 1}
GRADIENTS: dict[str, Any] = {"sigma0": 0.1, "lr": 0.1}
EMITTERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "GaussianEmitter": ("gaussian", {"sigma": 0.1}),
    "IsoLineEmitter": ("iso_line", {}),
    "GeneticAlgorithmEmitter": (
        "genetic",
        {"operator": "gaussian", "operator_kwargs": {"sigma": 0.1}},
    ),
    "EvolutionStrategyEmitter": ("cma_es", {"sigma0": 0.1}),
    "BayesianOptimizationEmitter": ({"name": "bayesian", **BAYESIAN}, BAYESIAN),
    "GradientArborescenceEmitter": ("gradient_arborescence", GRADIENTS),
    "GradientOperatorEmitter": ("gradient_operator", {"sigma": 0.1, "sigma_g": 0.1}),
}
STRATEGIES = {
    "CMAEvolutionStrategy": "cma_es",
    "SeparableCMAEvolutionStrategy": "sep_cma_es",
    "LMMAEvolutionStrategy": "lm_ma_es",
    "OpenAIEvolutionStrategy": "openai_es",
    "PyCMAEvolutionStrategy": "pycma_es",
}
OPENAI = {"lr": 0.05, "mirror_sampling": False}
RANKERS = {
    "ImprovementRanker": "imp",
    "TwoStageImprovementRanker": "2imp",
    "RandomDirectionRanker": "rd",
    "TwoStageRandomDirectionRanker": "2rd",
    "ObjectiveRanker": "obj",
    "TwoStageObjectiveRanker": "2obj",
    "NoveltyRanker": "nov",
    "NSLCRanker": "nslc",
    "NSLCClassicRanker": "nslc_classic",
    "DensityRanker": "density",
}
SCHEDULERS = {
    name: f"ribs.schedulers:{name}"
    for name in ("Scheduler", "BanditScheduler", "BayesianOptimizationScheduler")
}
BASES = {
    "ArchiveBase",
    "EmitterBase",
    "RankerBase",
    "EvolutionStrategyBase",
    "GradientOptBase",
    "GradientAscentOpt",
    "AdamOpt",
}
"""Base classes, and how an emitter's point moves: an option of gradient_arborescence."""


def classes(module: Any) -> set[str]:
    return {name for name in module.__all__ if inspect.isclass(getattr(module, name))} - BASES


def made(kind: Any, options: dict[str, Any]) -> Callable[[Any], Any]:
    """A factory of archives, with pyribs' own constructor."""

    def factory(spec: qm.ArchiveSpec) -> Any:
        given = {k: spec.ranges if k == "ranges" else v for k, v in options.items()}
        storage = {} if kind is ribs.archives.DensityArchive else spec.storage
        if kind is ribs.archives.CategoricalArchive:
            storage = {**storage, "seed": 1}
        return kind(**given, **storage)

    return factory


def of(kind: Any, **options: Any) -> Callable[[Any, Any], Any]:
    """A factory of emitters, with pyribs' own constructor."""

    def factory(archive: Any, spec: qm.EmitterSpec) -> Any:
        taken = inspect.signature(kind).parameters
        start = {"x0": spec.space.x0} if "x0" in taken else {}
        bounds: dict[str, Any] = {}
        if kind not in (ribs.emitters.GradientArborescenceEmitter,):
            bounds = {
                "lower_bounds": spec.space.lower_bounds,
                "upper_bounds": spec.space.upper_bounds,
            }
        size = {} if "batch_size" in options else {"batch_size": 4}
        return kind(archive, **{**start, **bounds, **size, **options}, seed=spec.seed)

    return factory


def outcome(backend: Any, **parts: Any) -> str:
    """ "works", or what is said before anything is evaluated."""
    options = {"emitters": "gaussian", **parts}
    try:
        search = CycleQD(backend, **options)
    except QDMergeError as error:
        return reason(error)
    seeds = search.ask()
    try:
        search.tell(seeds, search.evaluate(seeds))
    except QDMergeError as error:
        return reason(error)
    known = {x.tobytes() for x in backend.space.seeds.values()}
    asked = set()
    for _ in range(9 if len(search.tasks) > 1 else 2):
        batch = search.ask()
        asked |= {x.tobytes() for x in batch.solutions}
        search.tell(batch, search.evaluate(batch))
    assert asked - known, parts
    for task in search.tasks:
        for elite in search.elites(task):
            scores = backend.evaluate(elite.x[None], "validation").scores[0]
            np.testing.assert_allclose(list(elite.scores.values()), scores)
    return "works"


def reason(error: QDMergeError) -> str:
    text = str(error)
    for start in ("cannot be used: it ", "(EvolutionStrategyEmitter): "):
        text = text.partition(start)[2] or text
    return text.partition("; choose another")[0]


def rows(toy: Toy) -> Iterator[tuple[str, str, str, str]]:
    backend = toy()
    for name, (named, options) in ARCHIVES.items():
        kind = getattr(ribs.archives, name)
        factory = made(kind, options)
        if name == "DiscountArchive":  # its constructor wants a network to train
            factory = partial(_unbuilt, kind)
        theirs = outcome(backend, archive=factory)
        yield f"archive `{name}`", label(named), outcome(backend, archive=named), theirs
    for name, (named, options) in EMITTERS.items():
        kind = getattr(ribs.emitters, name)
        one = toy(n_tasks=1, n_measures=2) if "Bayesian" in name else backend  # it is slow
        theirs = outcome(one, emitters=of(kind, **options))
        yield f"emitter `{name}`", label(named), outcome(one, emitters=named), theirs
    for name, short in STRATEGIES.items():
        kwargs = {"es_kwargs": OPENAI} if short == "openai_es" else {}
        named = {"name": short, "batch_size": 4}
        es = getattr(ribs.emitters.opt, name)
        theirs = of(ribs.emitters.EvolutionStrategyEmitter, sigma0=0.1, es=es, **kwargs)
        found = outcome(backend, emitters=named), outcome(backend, emitters=theirs)
        yield f"es `{name}`", short, *found
    for name, short in RANKERS.items():
        proximity = {"archive": "proximity"} if short in ("nov", "nslc") else {}
        ranker = getattr(ribs.emitters.rankers, name)
        theirs = of(ribs.emitters.EvolutionStrategyEmitter, sigma0=0.1, ranker=ranker)
        named = {"name": "cma_es", "ranker": short}
        found = [outcome(backend, emitters=one, **proximity) for one in (named, theirs)]
        note = " (archive proximity)" if proximity else ""
        yield f"ranker `{name}`{note}", short, *found
    for name, target in SCHEDULERS.items():
        kind = getattr(ribs.schedulers, name)
        found = [outcome(backend, scheduler=one) for one in (target, kind)]
        yield f"scheduler `{name}`", target, *found


def _unbuilt(kind: Any, spec: qm.ArchiveSpec) -> Any:
    return kind.__new__(kind)


def label(named: Any) -> str:
    return named if isinstance(named, str) else named["name"]


def test_every_part_of_pyribs_is_in_the_table_and_does_what_it_says(toy: Toy) -> None:
    archives = {name for name in classes(ribs.archives) if name.endswith("Archive")}
    assert archives == set(ARCHIVES)
    assert classes(ribs.emitters) == set(EMITTERS)
    assert classes(ribs.emitters.opt) == set(STRATEGIES)
    assert classes(ribs.emitters.rankers) == set(RANKERS)
    assert classes(ribs.schedulers) == set(SCHEDULERS)
    lines = ["| part of pyribs | name | by name | as an object |", "|---|---|---|---|"]
    for part, name, named, theirs in rows(toy):
        if "works" not in (named, theirs) and theirs.rstrip(".") == named.rstrip("."):
            named, theirs = f"refused: {named}", "the same"
        assert named == "works" or theirs == "the same", (part, named, theirs)
        assert theirs in ("works", "the same"), (part, named, theirs)
        lines.append(f"| {part} | `{name}` | {named} | {theirs} |")
    table = "\n".join(lines)
    text = PAGE.read_text(encoding="utf-8")
    start, end = "<!-- table -->\n", "\n<!-- end -->"
    head, _, rest = text.partition(start)
    found, _, tail = rest.partition(end)
    if os.environ.get("QDMERGE_WRITE"):
        PAGE.write_text(head + start + table + end + tail, encoding="utf-8")
        return
    assert found == table, "write the table anew with QDMERGE_WRITE=1"


# pyribs' tests of its scheduler, for one task with measures of its own


def one_task(toy: Toy, emitters: Any, **options: Any) -> CycleQD:
    search = CycleQD(toy(n_tasks=1, n_measures=2), emitters=emitters, **options)
    seeds = search.ask()
    search.tell(seeds, search.evaluate(seeds))
    return search


def test_ask_gives_every_emitter_s_solutions(toy: Toy) -> None:
    sizes = (1, 2, 3)
    gaussians = [of(ribs.emitters.GaussianEmitter, sigma=0.1, batch_size=n) for n in sizes]
    assert one_task(toy, gaussians).ask().solutions.shape == (6, 4)


def test_ask_twice_fails_where_an_emitter_waits(toy: Toy) -> None:
    """pyribs' never allows it; here emitters that learn nothing may have several batches out."""
    search = one_task(toy, "cma_es")
    search.ask()
    with pytest.raises(RuntimeError, match="waits for results"):
        search.ask()
    free = one_task(toy, "gaussian")
    assert free.ask().id != free.ask().id


@pytest.mark.parametrize("rows", [3, 5])
@pytest.mark.parametrize("array", ["scores", "measures"])
def test_arrays_of_wrong_length_are_refused(array: str, rows: int, toy: Toy) -> None:
    search = one_task(toy, of(ribs.emitters.GaussianEmitter, sigma=0.1))
    batch = search.ask()
    sizes = {"scores": 4, "measures": 4, array: rows}
    told = qm.Evaluation(np.ones((sizes["scores"], 1)), np.ones((sizes["measures"], 2)))
    with pytest.raises(ValueError, match=array):
        search.tell(batch, told)
    assert search.scheduler.out == [batch.id]


def test_told_solutions_are_in_the_archive(toy: Toy) -> None:
    search = one_task(
        toy,
        of(ribs.emitters.GaussianEmitter, sigma=0.1),
        axes=qm.AxisSizing(ranges={"x0": (-2, 2), "x1": (-2, 2)}),
    )
    batch = search.ask()
    corners = np.array([[1.9, 1.9], [-1.9, 1.9], [-1.9, -1.9], [1.9, -1.9]])
    search.tell(batch, qm.Evaluation(np.ones((4, 1)), corners))
    archive = search.archives["task0"]
    found, elites = archive.retrieve(corners)
    assert found.all()
    np.testing.assert_array_equal(elites["solution"], batch.solutions)
    np.testing.assert_array_equal(elites["objective"], np.ones(4))


def test_one_emitter_for_all_tasks_is_refused(toy: Toy) -> None:
    archive = ribs.archives.GridArchive(solution_dim=4, dims=[3, 3], ranges=[(-1, 1)] * 2)
    emitter = ribs.emitters.GaussianEmitter(archive, sigma=0.1, x0=np.zeros(4))
    with pytest.raises((ValueError, QDMergeError), match="listed twice"):
        CycleQD(toy(), emitters=[lambda archive, spec: emitter])


def test_jacobians_are_asked_for_and_told(toy: Toy) -> None:
    """pyribs has ask_dqd and tell_dqd; here the batch says that it wants Jacobians."""
    search = one_task(toy, "gradient_arborescence")
    batch = search.ask()
    scores = qm.Evaluation(np.ones((1, 1)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="Jacobians"):
        search.tell(batch, scores)
    search.tell(batch, search.evaluate(batch))
