"""Emitters from factories and from text, merging ones and pyribs' own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ribs.emitters import EvolutionStrategyEmitter, GaussianEmitter, IsoLineEmitter
from safetensors.torch import save_file

from qdmerge.archives import ArchiveSpec, Axis, grid
from qdmerge.backend import Task
from qdmerge.checkpoints import TaskVectors
from qdmerge.emitters import EmitterSpec, MergeEmitter, build_emitters, expert_of, paper_emitter
from qdmerge.errors import ConfigError, UnsupportedError
from qdmerge.operators import Chain, GaussianMutation, NoCrossover, RankSelection, SVDMutation
from qdmerge.parts import EMITTERS
from qdmerge.runs import build_search
from qdmerge.settings import parse_config
from qdmerge.spaces import CoreSpace, Space, SpectralSpace, VectorSpace

SPACE = VectorSpace(
    {"base": np.zeros(3), "coding": np.ones(3), "db": [1.0, -1.0, 1.0]},
    lower=-2,
    upper=2,
    experts=("coding", "db"),
)
ARCHIVE_SPEC = ArchiveSpec("coding", (Axis("db", 0, 1),), 3, np.dtype(float), 0.0, 1)
ARCHIVE = grid(ARCHIVE_SPEC)


def spec(space: Any = SPACE, expert: str | None = "coding", seed: int = 5) -> EmitterSpec:
    return EmitterSpec("coding", expert, space, 1, seed)


def build(name: str, /, **options: Any) -> Any:
    return EMITTERS.build(name, options, {"archive": ARCHIVE, **spec().context})


class Spectral(VectorSpace):
    """A space whose second coordinate is a singular component of expert coding."""

    def spectral_coordinates(self, expert: str) -> tuple[np.ndarray, ...]:
        return (np.array([{"coding": 1, "db": 2}[expert]]),)


STOCK = {
    "gaussian": (GaussianEmitter, 1),
    "iso_line": (IsoLineEmitter, 1),
    "cma_es": (EvolutionStrategyEmitter, 6),
    "sep_cma_es": (EvolutionStrategyEmitter, 6),
}


@pytest.mark.parametrize("name", STOCK)
def test_stock_emitters_start_at_the_experts_within_the_bounds(name: str) -> None:
    kind, batch_size = STOCK[name]
    made = build(name)
    assert type(made) is kind
    assert made.batch_size == batch_size
    assert made.x0.tolist() == [1, 0, 1]  # the mean of the experts, without the base
    assert (made.lower_bounds == -2).all()
    assert (made.upper_bounds == 2).all()
    assert build(name, batch_size=9).batch_size == 9


def test_the_strategy_of_sep_cma_es_is_diagonal() -> None:
    from ribs.emitters.opt import CMAEvolutionStrategy, SeparableCMAEvolutionStrategy

    assert type(build("cma_es")._opt) is CMAEvolutionStrategy
    assert type(build("sep_cma_es")._opt) is SeparableCMAEvolutionStrategy


def test_the_user_s_options_win() -> None:
    assert build("gaussian", sigma=0.7).sigma == 0.7
    assert build("gaussian", x0=[0.0, 0.0, 0.5]).x0.tolist() == [0, 0, 0.5]


def test_a_free_space_has_no_bounds() -> None:
    free = spec(VectorSpace({"base": [0.0], "coding": [1.0]}, experts=("coding",)))
    assert free.context["lower_bounds"] is None
    assert free.context["upper_bounds"] is None
    half = spec(VectorSpace({"coding": [1.0]}, lower=0, experts=("coding",)))
    assert half.context["lower_bounds"].tolist() == [0]
    assert half.context["upper_bounds"].tolist() == [np.inf]


def test_merge_from_text() -> None:
    made = build(
        "merge",
        batch_size=3,
        selection={"name": "rank", "pressure": 1.5},
        crossover="none",
        mutation=["none", {"name": "gaussian", "sigma": 0.2}],
    )
    assert type(made) is MergeEmitter
    assert made.batch_size == 3
    assert made._selection == RankSelection(1.5)
    assert made._crossover == NoCrossover()
    assert isinstance(made._mutation, Chain)
    assert made._mutation.mutations[1] == GaussianMutation(0.2)
    assert made.lower_bounds.tolist() == [-2] * 3
    assert build("merge", mutation="gaussian")._mutation == GaussianMutation()


def test_text_and_python_have_the_same_default_mutation() -> None:
    """Of the task's expert where there are spectral coordinates, else Gaussian."""
    assert build("merge")._mutation == GaussianMutation()
    spectral = Spectral(SPACE.seeds, experts=SPACE.experts)
    made = EMITTERS.build("merge", {}, {"archive": ARCHIVE, **spec(spectral, "db").context})
    assert isinstance(made._mutation, SVDMutation)
    assert made._mutation(np.zeros((1, 3)), np.random.default_rng(0)).nonzero()[1].tolist() == [2]
    with pytest.raises(UnsupportedError, match="'vector' does not have; use space 'spectral'"):
        build("merge", mutation="svd")


def test_the_paper_s_emitter_mutates_what_the_space_offers() -> None:
    spectral = Spectral(SPACE.seeds, experts=SPACE.experts)
    assert isinstance(paper_emitter(ARCHIVE, spec(spectral))._mutation, SVDMutation)
    for other in (spec(), spec(spectral, expert=None)):
        assert paper_emitter(ARCHIVE, other)._mutation == GaussianMutation()


@pytest.mark.parametrize("kind", [CoreSpace, SpectralSpace])
def test_the_paper_s_emitter_of_a_model_without_matrices(tmp_path: Path, kind: Any) -> None:
    for number, name in enumerate(("base", "coding", "db")):
        save_file({"norm.weight": torch.full((4,), float(number))}, tmp_path / name)
    paths = {name: tmp_path / name for name in ("coding", "db")}
    space = kind(TaskVectors(tmp_path / "base", paths))
    archive = grid(replace(ARCHIVE_SPEC, solution_dim=space.dim))
    assert paper_emitter(archive, spec(space))._mutation == GaussianMutation()


def test_expert_of_a_task() -> None:
    assert expert_of(Task("coding"), SPACE) == "coding"
    assert expert_of(Task("python", expert="coding"), SPACE) == "coding"
    assert expert_of(Task("os"), SPACE) is None
    with pytest.raises(ConfigError, match="'os' names expert 'codng'.*coding, db"):
        expert_of(Task("os", expert="codng"), SPACE)


def test_every_factory_makes_an_emitter_for_every_task() -> None:
    made = []

    def factory(archive: Any, spec: EmitterSpec) -> Any:
        made.append((archive, spec.task, spec.expert, spec.n_scores, spec.seed))
        return paper_emitter(archive, spec)

    tasks = [Task("os", expert="db"), Task("coding")]
    archives = {"os": ARCHIVE, "coding": grid(replace(ARCHIVE_SPEC, task="coding"))}
    emitters = build_emitters([factory, factory], tasks, SPACE, archives, [[1, 2], [3, 4]])
    assert {task: len(listed) for task, listed in emitters.items()} == {"os": 2, "coding": 2}
    assert made == [
        (archives["os"], "os", "db", 1, 1),
        (archives["os"], "os", "db", 1, 2),
        (archives["coding"], "coding", "coding", 1, 3),
        (archives["coding"], "coding", "coding", 1, 4),
    ]


ANY_EMITTER = {
    "merge": {"name": "merge", "mutation": "gaussian"},
    "gaussian": "gaussian",
    "iso_line": "iso_line",
    "cma_es": "cma_es",
    "sep_cma_es": "sep_cma_es",
    "gradient_arborescence": {"name": "gradient_arborescence", "batch_size": 3},
    "gradient_operator": "gradient_operator",
    "module:Gaussian": {"name": "ribs.emitters:GaussianEmitter", "sigma": 0.2, "batch_size": 2},
    "module:ES": {
        "name": "ribs.emitters:EvolutionStrategyEmitter",
        "sigma0": 0.2,
        "ranker": "2obj",
    },
    "module:Genetic": {
        "name": "ribs.emitters:GeneticAlgorithmEmitter",
        "operator": "gaussian",
        "operator_kwargs": {"sigma": 0.1},
        "batch_size": 2,
    },
    "module:Operator": {
        "name": "ribs.emitters:GradientOperatorEmitter",
        "sigma": 0.1,
        "sigma_g": 0.1,
        "batch_size": 2,
    },
}
ANY_ARCHIVE = {
    "grid": {"name": "grid", "bins": 6},
    "cvt": {"name": "cvt", "centroids": 20, "samples": 60},
    "dns": {"name": "dns", "capacity": 20},
    "proximity": "proximity",
    "sliding": {"name": "sliding", "bins": 4, "remap": 20},
    "annealed": {"name": "grid", "bins": 6, "learning_rate": 0.3},
    "module:Class": {"name": "ribs.archives:SlidingBoundariesArchive", "dims": [4, 4]},
}


def found(emitter: Any, archive: Any, seed: int, evolve: Callable[..., Any]) -> dict[str, Any]:
    """The archives' solutions after twenty generations on the toy backend."""
    data = {"backend": "toy", "archive": archive, "emitters": [emitter], "seed": seed}
    config = parse_config(data)
    search = evolve(build_search(config, config.backend.build(None)), 20)
    return {task: made.data("solution").tolist() for task, made in search.archives.items()}


@pytest.mark.parametrize("archive", ANY_ARCHIVE.values(), ids=list(ANY_ARCHIVE))
@pytest.mark.parametrize("emitter", ANY_EMITTER.values(), ids=list(ANY_EMITTER))
def test_any_emitter_works_on_any_archive(
    emitter: Any, archive: Any, evolve: Callable[..., Any]
) -> None:
    elites = found(emitter, archive, 1, evolve)
    assert all(len(listed) >= 3 for listed in elites.values())
    assert len({str(x) for listed in elites.values() for x in listed}) > 3  # not just the experts


STRATEGIES = [
    {"ranker": "2rd", "selection_rule": "mu", "restart_rule": 3},
    {"ranker": "imp", "restart_rule": "basic", "es": "lm_ma_es", "batch_size": 4},
    {"ranker": "obj", "es": "openai_es", "es_kwargs": {"lr": 0.05, "mirror_sampling": False}},
    {"es": "pycma_es"},
]


@pytest.mark.parametrize("options", STRATEGIES, ids=[str(list(one)) for one in STRATEGIES])
def test_rankers_restarts_and_strategies_are_options(
    options: dict[str, Any], evolve: Callable[..., Any]
) -> None:
    emitter = {"name": "cma_es", **options}
    assert found(emitter, "grid", 1, evolve) != found("cma_es", "grid", 1, evolve)


class Single(Space):
    """A space of float32, as every space of weights is."""

    name = "single"


@pytest.mark.parametrize("emitter", ANY_EMITTER.values(), ids=list(ANY_EMITTER))
def test_solutions_have_the_space_s_dtype(emitter: Any) -> None:
    config = parse_config({"backend": "toy", "emitters": [emitter]})
    backend = config.backend.build(None)
    free = backend.space
    backend.space = Single(seeds=free.seeds, experts=free.experts, dtype=np.float32)
    search = build_search(config, backend)
    for _ in range(12):
        batch = search.ask()
        assert batch.solutions.dtype == np.float32
        search.tell(batch, search.evaluate(batch))
    assert search.archives["task0"].data("solution").dtype == np.float32
    assert search.aggregate(scale=1.5).dtype == np.float32
