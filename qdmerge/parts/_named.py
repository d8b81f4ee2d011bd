"""The built-in parts by name, and what a configuration says of a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from qdmerge.archives import UNFIT_ARCHIVES
from qdmerge.parts._registry import Entry, Registry
from qdmerge.schedulers import UNFIT_SCHEDULERS

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase
    from ribs.emitters import EmitterBase

    from qdmerge.emitters import EmitterSpec

SPACES = Registry(
    "space",
    context=("vectors",),
    entries={
        "expert": Entry("qdmerge.spaces:ExpertSpace", "one weight per expert"),
        "layer": Entry("qdmerge.spaces:LayerSpace", "one weight per expert and layer"),
        "spectral": Entry(
            "qdmerge.spaces:SpectralSpace",
            "one multiplier per expert, matrix and leading singular component",
        ),
        "core": Entry(
            "qdmerge.spaces:CoreSpace",
            "a small core per matrix, between bases that the experts share; exact for LoRA",
        ),
        "regmean": Entry(
            "qdmerge.spaces:RegMeanSpace",
            "spectral, weighted by what layers receive under each expert (RegMean)",
        ),
        "dense": Entry(
            "qdmerge.spaces:DenseSpace", "every number of the weights: for small models and rivals"
        ),
        "ties": Entry("qdmerge.merges:TiesSpace", "TIES: expert weights, density and scale"),
        "dare": Entry("qdmerge.merges:DareSpace", "DARE: expert weights and density"),
        "dare_ties": Entry(
            "qdmerge.merges:DareTiesSpace", "DARE with TIES' signs: expert weights and density"
        ),
        "slerp": Entry("qdmerge.merges:SlerpSpace", "SLERP from expert to expert: scale and t"),
    },
)

ARCHIVES = Registry(
    "archive",
    context=(
        "spec",
        "ranges",
        "measure_dim",
        "solution_dim",
        "solution_dtype",
        "qd_score_offset",
        "seed",
    ),
    entries={
        "grid": Entry("qdmerge.archives:grid", "equal bins on each axis, the paper's archive"),
        "cvt": Entry(
            "ribs.archives:CVTArchive",
            "Voronoi cells; their number does not grow with the tasks",
            {"centroids": 225, "samples": 10_000},
        ),
        "dns": Entry(
            "ribs.archives:DNSArchive",
            "dominated novelty search: a population without cells",
            {"capacity": 100, "k_neighbors": 3},
        ),
        "proximity": Entry(
            "ribs.archives:ProximityArchive",
            "novelty search with local competition: without cells, it grows",
            {"k_neighbors": 5, "novelty_threshold": 0.03, "local_competition": True},
        ),
        "sliding": Entry(
            "qdmerge.archives:sliding", "a grid whose boundaries follow the models found"
        ),
    },
    unfit={
        **{f"ribs.archives:{name}": reason for name, reason in UNFIT_ARCHIVES.items()},
        "density": UNFIT_ARCHIVES["DensityArchive"],
        "categorical": UNFIT_ARCHIVES["CategoricalArchive"],
        "discount": UNFIT_ARCHIVES["DiscountArchive"],
    },
)

_BOUNDS = ("lower_bounds", "upper_bounds")

EMITTERS = Registry(
    "emitter",
    context=("archive", "spec", "x0", *_BOUNDS, "bounds", "initial_solutions", "seed"),
    entries={
        "merge": Entry(
            "qdmerge.parts._named:merge_emitter", "selection, merging and mutation: CycleQD"
        ),
        "gaussian": Entry(
            "ribs.emitters:GaussianEmitter",
            "Gaussian noise on an elite",
            {"sigma": 0.1, "batch_size": 1},
        ),
        "iso_line": Entry(
            "ribs.emitters:IsoLineEmitter",
            "noise on an elite, along the line to another",
            {"iso_sigma": 0.05, "line_sigma": 0.2, "batch_size": 1},
        ),
        "cma_es": Entry(
            "ribs.emitters:EvolutionStrategyEmitter",
            "CMA-ES that learns from what enters the archive (CMA-ME)",
            {"sigma0": 0.1, "batch_size": 6},
        ),
        "sep_cma_es": Entry(
            "ribs.emitters:EvolutionStrategyEmitter",
            "the same with a diagonal covariance, for large spaces",
            {"sigma0": 0.1, "batch_size": 6, "es": "sep_cma_es"},
        ),
        "lm_ma_es": Entry(
            "ribs.emitters:EvolutionStrategyEmitter",
            "the same with a few directions, for large spaces",
            {"sigma0": 0.1, "batch_size": 6, "es": "lm_ma_es"},
        ),
        "openai_es": Entry(
            "ribs.emitters:EvolutionStrategyEmitter",
            "the same with one step size: OpenAI-ES, for large spaces",
            {
                "sigma0": 0.1,
                "batch_size": 6,
                "es": "openai_es",
                "es_kwargs": {"lr": 0.05, "mirror_sampling": False},
            },
        ),
        "pycma_es": Entry(
            "ribs.emitters:EvolutionStrategyEmitter",
            "the same by package cma",
            {"sigma0": 0.1, "batch_size": 6, "es": "pycma_es"},
        ),
        "genetic": Entry(
            "ribs.emitters:GeneticAlgorithmEmitter",
            "an operator of pyribs on elites",
            {"operator": "gaussian", "operator_kwargs": {"sigma": 0.1}, "batch_size": 1},
        ),
        "bayesian": Entry(
            "ribs.emitters:BayesianOptimizationEmitter",
            "Bayesian optimization (BOP-Elites): a grid, finite bounds, few coordinates",
        ),
        "gradient_arborescence": Entry(
            "qdmerge.emitters:GradientArborescence",
            "branches along the slopes of all scores at one point: CMA-MEGA, CMA-MAEGA",
        ),
        "gradient_operator": Entry(
            "qdmerge.emitters:GradientOperator",
            "elites move along the slopes of all scores: OMG-MEGA",
        ),
        "recipe": Entry(
            "qdmerge.merges:RecipeEmitter", "the grid of a recipe without search, a baseline"
        ),
    },
)

SCHEDULERS = Registry(
    "scheduler",
    context=("archives", "emitters", "seed"),
    entries={
        "cycle": Entry("qdmerge.schedulers:CycleScheduler", "tasks take turns: CycleQD"),
        "bandit": Entry(
            "qdmerge.schedulers:BanditScheduler", "more turns where archives still improve"
        ),
        "fixed": Entry("qdmerge.schedulers:FixedScheduler", "one task is active always"),
    },
    unfit={f"ribs.schedulers:{name}": reason for name, reason in UNFIT_SCHEDULERS.items()},
)

_OPERATOR_CONTEXT = ("space", "expert", "task", "tasks")

SELECTIONS = Registry(
    "selection",
    context=_OPERATOR_CONTEXT,
    entries={
        "elite": Entry("qdmerge.operators:EliteSelection", "by all scores, the paper's sampling"),
        "uniform": Entry("qdmerge.operators:UniformSelection", "every elite alike"),
        "rank": Entry("qdmerge.operators:RankSelection", "by rank on the active task"),
    },
)

CROSSOVERS = Registry(
    "crossover",
    context=_OPERATOR_CONTEXT,
    entries={
        "linear": Entry("qdmerge.operators:LinearCrossover", "weighted merge of two parents"),
        "none": Entry("qdmerge.operators:NoCrossover", "one parent as it is"),
    },
)

MUTATIONS = Registry(
    "mutation",
    context=_OPERATOR_CONTEXT,
    entries={
        "svd": Entry(
            "qdmerge.operators:SVDMutation", "noise on the active expert's singular values"
        ),
        "svd_child": Entry(
            "qdmerge.operators:ChildSVDMutation",
            "noise on the child's own singular values (space core): the paper's mutation",
        ),
        "gaussian": Entry("qdmerge.operators:GaussianMutation", "noise on all coordinates"),
        "guided": Entry(
            "qdmerge.operators:GuidedMutation",
            "steps towards what the experts say on unlabeled items, before a child is scored",
        ),
        "none": Entry("qdmerge.operators:NoMutation", "no mutation"),
    },
)


REGISTRIES = (SPACES, ARCHIVES, EMITTERS, SCHEDULERS, SELECTIONS, CROSSOVERS, MUTATIONS)
"""The registries of all kinds of part, in the order of ``qdmerge list``."""


class Part(BaseModel):
    """A part by name with its options: ``grid``, or ``{name: grid, bins: 10}``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @property
    def options(self) -> dict[str, Any]:
        """Options without the name."""
        return dict(self.model_extra or {})


def _checked_by(registry: Registry) -> AfterValidator:
    def check(part: Part) -> Part:
        problems = registry.problems(part.name, part.options)
        if problems:
            raise ValueError("\n".join(problems))
        return part

    return AfterValidator(check)


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


SpacePart = Annotated[Part, _checked_by(SPACES)]
ArchivePart = Annotated[Part, _checked_by(ARCHIVES)]
EmitterPart = Annotated[Part, _checked_by(EMITTERS)]
SchedulerPart = Annotated[Part, _checked_by(SCHEDULERS)]
SelectionPart = Annotated[Part, _checked_by(SELECTIONS)]
CrossoverPart = Annotated[Part, _checked_by(CROSSOVERS)]
Mutations = Annotated[
    Sequence[Annotated[Part, _checked_by(MUTATIONS)]],
    BeforeValidator(_as_list),
    Field(min_length=1),
]


def build_part(registry: Registry, part: Part, context: Mapping[str, Any]) -> Any:
    """Build a configured part; see :meth:`Registry.build`."""
    return registry.build(part.name, part.options, context)


def merge_emitter(
    archive: ArchiveBase,
    spec: EmitterSpec,
    batch_size: Annotated[int, Field(ge=1)] = 1,
    selection: SelectionPart = Part(name="elite"),  # noqa: B008
    crossover: CrossoverPart = Part(name="linear"),  # noqa: B008
    mutation: Mutations | None = None,
) -> EmitterBase:
    """Build a configured :class:`~qdmerge.emitters.MergeEmitter`; several mutations are a chain.

    Without a mutation it has the one of :func:`~qdmerge.emitters.paper_mutation`.
    """
    from qdmerge.emitters import MergeEmitter, paper_mutation
    from qdmerge.operators import chain

    context = {
        "space": spec.space,
        "expert": spec.expert,
        "task": spec.task,
        "tasks": spec.tasks,
    }
    mutations = [build_part(MUTATIONS, part, context) for part in mutation or ()] or [
        paper_mutation(spec.space, spec.expert)
    ]
    return MergeEmitter(
        archive,
        selection=build_part(SELECTIONS, selection, context),
        crossover=build_part(CROSSOVERS, crossover, context),
        mutation=mutations[0] if len(mutations) == 1 else chain(*mutations),
        n_scores=spec.n_scores,
        batch_size=batch_size,
        lower_bounds=spec.space.lower_bounds,
        upper_bounds=spec.space.upper_bounds,
        seed=spec.seed,
    )
