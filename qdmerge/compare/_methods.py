"""The methods to compare: each is a change of the user's configuration."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from qdmerge.errors import ConfigError, nearest
from qdmerge.merges import Recipe, grid_size
from qdmerge.options import explain
from qdmerge.settings import SEARCH_PRESETS, SearchPreset, with_changes
from qdmerge.storage import parse_yaml

if TYPE_CHECKING:
    from qdmerge.settings import RunConfig


@dataclass(frozen=True)
class DomainFacts:
    """What methods have to fit; a number is None if it is not known yet."""

    tasks: int | None
    experts: int | None
    weights: bool  # models are merged weights, so a method may choose the space
    calibrated: bool  # the backend gives layers' inputs under every expert
    objectives: Collection[str] = ()  # losses of the backend's guide; none without one

    @classmethod
    def from_settings(cls, config: RunConfig) -> DomainFacts:
        """Return what a configuration's settings say before models are made."""
        counts = [getattr(config.backend, name, None) for name in ("tasks", "experts")]
        tasks, experts = (len(one) or None if isinstance(one, Mapping) else None for one in counts)
        return cls(tasks, experts, True, True, ("agreement", "entropy"))


class Method(BaseModel):
    """A way to get a merged model, as a change of a run's configuration.

    Attributes:
        summary: One line.
        changes: Configuration keys that it sets.
        space: "own" is the configured space; a name is another space, unless the backend has a
            space of its own.
        recipe: A recipe without search, whose grid is the budget; None for a search.
        start: What a run starts from, with no search after it, whose size is the budget: parts of a
            configuration's ``start``. A search that begins with it has it in ``changes``.
        candidates: Models to choose among; see :class:`~qdmerge.settings.FinalConfig`.
        keeps: "elites" of the configured archives, or "everything" that it evaluated.
        model: "merged" from the experts, or the "multitask" model, fine-tuned on all tasks' data.
        without_guide: Configuration keys to set instead, where the backend has no guide; {} for the
            same.
        requires: Python packages beyond qdmerge's own.
        tasks: Least number of tasks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str = ""
    changes: dict[str, Any] = {}
    space: str = "own"
    recipe: Recipe | None = None
    start: list[Any] = []
    candidates: Literal["all", "elites", "children"] = "elites"
    keeps: Literal["elites", "everything"] = "everything"
    model: Literal["merged", "multitask"] = "merged"
    without_guide: dict[str, Any] = {}
    requires: tuple[str, ...] = ()
    tasks: int = 1

    @field_validator("changes", "without_guide")
    @classmethod
    def _leaves_what_is_shared(cls, changes: dict[str, Any]) -> dict[str, Any]:
        if shared := sorted(changes.keys() & {"evaluations", "seconds", "seed"}):
            raise ValueError(f"{', '.join(shared)}: the comparison sets this for all methods")
        backend = changes.get("backend")
        if isinstance(backend, dict) and "allow_unsandboxed" in backend:
            raise ValueError("no file switches the sandbox off; give --allow-unsandboxed yourself")
        for key in ("execution", "final"):
            if key in changes and not isinstance(changes[key], dict):
                raise ValueError(f"'{key}' must map keys to values; got {changes[key]!r}")
        return changes

    @model_validator(mode="after")
    def _is_one_thing(self) -> Method:
        if self.start and (self.recipe or "start" in self.changes):
            raise ValueError("'start' stands alone: without 'recipe', and without changes.start")
        return self

    def fitted(self, facts: DomainFacts) -> Method:
        """Return this method as a domain can use it."""
        if not self.without_guide or facts.objectives:
            return self
        return self.model_copy(update={"changes": self.without_guide})

    @property
    def seeded(self) -> bool:
        """Whether the result depends on the seed."""
        return self.recipe is None or self.space in _DRAWING


def _climb(summary: str, space: str, **options: Any) -> Method:
    start = [{"recipe": "guided", **options}]
    return Method(summary=summary, space=space, start=start, candidates="children")


def _search(emitter: str, summary: str, space: str = "layer", **more: Any) -> Method:
    options = more.pop("options", {})
    changes = {"emitters": [{"name": emitter, **options}], "scheduler": "fixed"}
    return Method(summary=summary, space=space, changes=changes, **more)


def _recipe(name: Recipe, summary: str, space: str = "expert") -> Method:
    return Method(summary=summary, space=space, recipe=name, candidates="children")


def _quality_diversity(summary: str, changes: Mapping[str, Any], **more: Any) -> Method:
    return Method(summary=summary, changes=dict(changes), candidates="all", keeps="elites", **more)


def _preset(preset: SearchPreset) -> Method:
    other = preset.without_guide
    instead = dict(SEARCH_PRESETS[other].changes) if other else {}
    return _quality_diversity(preset.summary, preset.changes, without_guide=instead)


_ADAMERGING = {
    "objective": "entropy",
    "scales": [0.3],
    "steps": 200,
    "every": 50,
    "rate": 5e-3,
    "branch_steps": 0,
}
"""All coefficients begin at .3, and can go as far as in the paper's 500 steps of rate .001."""

METHODS: Mapping[str, Method] = {
    "experts": Method(summary="the best expert", space="expert", recipe="experts"),
    "average": _recipe("average", "the mean of the experts' weights"),
    "task_arithmetic": _recipe("task_arithmetic", "one scale on all task vectors"),
    "tilted": _recipe("tilted", "one expert high, the others lower"),
    "ties": _recipe("ties", "trimmed task vectors, elected signs (TIES)", "ties"),
    "dare": _recipe("dare", "randomly dropped, rescaled task vectors (DARE)", "dare"),
    "dare_ties": _recipe("dare_ties", "DARE, then TIES' elected signs", "dare_ties"),
    "regmean": _recipe("regmean", "regression means on layers' inputs (RegMean)", "regmean"),
    "slerp": _recipe("slerp", "spherical interpolation of weights, chained", "slerp"),
    "finetune": Method(
        summary="the base fine-tuned on all tasks' data",
        model="multitask",
        space="expert",
        recipe="experts",
    ),
    "guided": _climb("climbs towards what the experts say on unlabeled items", "core"),
    "distill": _climb(
        "all weights trained towards what the experts say", "dense", rate=1e-3, branch_steps=0
    ),
    "adamerging": _climb("entropy lowered, a weight per expert and layer", "layer", **_ADAMERGING),
    "adamerging_task": _climb("entropy lowered, a weight per expert", "expert", **_ADAMERGING),
    "random": _search("random", "random search around the average"),
    "random_uniform": _search(
        "random", "random search, uniform", options={"distribution": "uniform"}
    ),
    "cma_es": _search("scalar_cma_es", "CMA-ES on the mean score", requires=("cma",)),
    "cma_es_gmean": _search(
        "scalar_cma_es",
        "CMA-ES on the geometric mean of the scores",
        requires=("cma",),
        options={"objective": "geometric_mean"},
    ),
    "nsga2": _search("nsga2", "NSGA-II on all scores", requires=("pymoo",), tasks=2),
    "map_elites": _search(
        "iso_line", "MAP-Elites with a fixed quality axis", space="spectral", keeps="elites"
    ),
    "m2n2": _search("m2n2", "natural niches (M2N2)", space="spectral"),
    **{name: _preset(preset) for name, preset in SEARCH_PRESETS.items()},
    "config": _quality_diversity("the configuration as it stands", {}),
}
"""Name to method."""


_DRAWING = ("dare", "dare_ties")
"""Spaces that draw random numbers, so that recipes in them depend on the seed."""

_NAME = re.compile(r"\w[\w.+-]*")


def listed_methods() -> list[tuple[str, str]]:
    """Return name and summary of each method, for ``qdmerge list methods``."""
    return [(name, method.summary) for name, method in METHODS.items()]


def find_methods(names: Sequence[str]) -> dict[str, Method]:
    """Find methods by name, and read them from files.

    Args:
        names: Names of :data:`METHODS`, or paths of YAML files that map new names to fields of
            :class:`Method`.

    Raises:
        ConfigError: All mistakes, one per line.
    """
    found: dict[str, Method] = {}
    problems: list[str] = []
    for name in names:
        if name.endswith((".yaml", ".yml")):
            methods = _read_methods(Path(name), problems)
        elif name in METHODS:
            methods = {name: METHODS[name]}
        else:
            problems.append(
                f"unknown method '{name}'{nearest(name, METHODS)} "
                f"Known: {', '.join(METHODS)}, or a YAML file of your own."
            )
            continue
        problems += [f"method '{twice}' is listed twice" for twice in methods if twice in found]
        found |= methods
    if not (found or problems):
        problems.append(f"no method to compare; known: {', '.join(METHODS)}")
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _read_methods(path: Path, problems: list[str]) -> dict[str, Method]:
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"cannot read methods from {path}: {' '.join(str(error).split())}")
        return {}
    if not isinstance(data, dict):
        problems.append(f"{path} must map names of methods to their settings")
        return {}
    found = {}
    for name, settings in data.items():
        if not _NAME.fullmatch(str(name)):
            problems.append(
                f"{path}: the method '{name}' needs another name, of letters, digits and _ . + -, "
                "since it becomes the name of a folder"
            )
            continue
        if settings is not None and not isinstance(settings, dict):
            problems.append(f"{path}, method '{name}' must map fields to values; got {settings!r}")
            continue
        own = settings or {}
        try:
            found[str(name)] = Method.model_validate({**_defaults(own), **own})
        except ValidationError as error:
            problems += [f"{path}, method '{name}': {line}" for line in explain(error, Method)]
    return found


def _defaults(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the defaults of a method of a file: a search of the archives, or without search."""
    if not settings.keys() & {"recipe", "start"}:
        return {"candidates": "all", "keeps": "elites"}
    return {"candidates": "elites" if settings.get("recipe") == "experts" else "children"}


def incompatibilities(methods: Mapping[str, Method], config: RunConfig, facts: DomainFacts) -> str:
    """Say why methods cannot be compared on a configuration, a line each; "" if all can."""
    weights = facts.weights
    lines = []
    if find_spec("moocore") is None:
        lines.append("a comparison needs moocore: pip install 'qdmerge[compare]'")
    for name, named in methods.items():
        method = named.fitted(facts)
        if missing := [package for package in method.requires if find_spec(package) is None]:
            lines.append(
                f"method '{name}' needs {', '.join(missing)}: pip install 'qdmerge[compare]'"
            )
        if facts.tasks is not None and facts.tasks < method.tasks:
            lines.append(f"method '{name}' needs {method.tasks} tasks or more, not {facts.tasks}")
        if method.recipe is not None and not weights:
            lines.append(
                f"method '{name}' merges weights, but backend '{config.backend.name}' has a space "
                "of its own; leave it out"
            )
        if method.recipe is None and "space" in method.changes and not weights:
            lines.append(
                f"method '{name}' searches another space, but backend '{config.backend.name}' has "
                "one of its own; leave it out"
            )
        spaces = (method.space, _space_of(method.changes))
        if weights and not facts.calibrated and "regmean" in spaces:
            lines.append(
                f"method '{name}' needs layers' inputs under each expert, which backend "
                f"'{config.backend.name}' does not give for all of them; leave it out"
            )
        lines += [
            f"method '{name}' needs a guide with the loss '{objective}', which backend "
            f"'{config.backend.name}' does not give; leave it out"
            for objective in sorted(_objectives(method) - set(facts.objectives))
        ]
        if method.model == "multitask" and config.backend.multitask() is None:
            lines.append(
                f"method '{name}': backend '{config.backend.name}' with these settings does not "
                "train one model on all tasks; leave it out"
            )
    return "\n".join(lines)


def _objectives(method: Method) -> set[str]:
    """Return which losses of a guide a method's climbs ask for."""
    found = set()
    for part in method.start or method.changes.get("start", ()):
        options = part if isinstance(part, Mapping) else {"recipe": part}
        if options.get("recipe") in ("guided", "plane"):
            found.add(str(options.get("objective", "agreement")))
    return found


def _space_of(changes: Mapping[str, Any]) -> str | None:
    """Return the name of the space that a method's changes choose."""
    space = changes.get("space")
    return space.get("name") if isinstance(space, Mapping) else space


def _plain(space: Any) -> Any:
    """Return a space as configurations echo it; it may be given by its name alone."""
    return {"name": space} if isinstance(space, str) else space


def configure(
    method: Method,
    config: RunConfig,
    *,
    seed: int,
    evaluations: int,
    facts: DomainFacts,
    seconds: float | None = None,
) -> RunConfig:
    """Return the configuration of a method's run; ``facts`` must hold the number of experts."""
    from qdmerge.settings import parse_config  # slow to import, and not needed to list methods

    method = method.fitted(facts)
    data = config.echo()
    own = data["space"]
    if method.model == "multitask":
        backend = config.backend.multitask()
        assert backend is not None
        data["backend"] = {"name": backend.name, **backend.model_dump(mode="json")}
        experts = 1
    else:
        assert facts.experts is not None
        experts = facts.experts
    if method.recipe is not None:
        data["emitters"] = [{"name": "recipe", "recipe": method.recipe}]
        data["scheduler"] = "fixed"
        evaluations = grid_size(method.recipe, experts)
    if method.space != "own" and facts.weights:
        options = {"seed": seed} if method.space in _DRAWING else {}
        kept = own if own and own["name"] == method.space else {"name": method.space}
        data["space"] = {**kept, **options}
    if method.start:
        data |= {"start": method.start, "emitters": []}
        regressing = method.space == "regmean"
        parts = parse_config(data).start
        evaluations = sum(part.size(experts, facts.tasks or 1, regressing) for part in parts)
    if method.keeps == "everything":
        # Room for everything; the last generation of a search may exceed the budget.
        data["archive"] = {"name": "dns", "capacity": 2 * evaluations + experts + 64}
    data = with_changes(data, method.changes)
    # A start belongs to the configured space, and only archives pass it on to emitters.
    as_it_is = method.recipe is not None or method.keeps == "everything"
    given = method.start or "start" in method.changes
    if (as_it_is or _plain(data["space"]) != own) and not given:
        data["start"] = []
    data |= {"seed": seed, "seconds": seconds}
    # Neither the number of workers nor other runs may change a run.
    threads = config.execution.threads or 1
    data["execution"] |= {"workers": 1, "in_flight": 1, "timeout": None, "threads": threads}
    table = "full" if method.recipe == "experts" and method.model == "merged" else "picks"
    data["final"] |= {"table": table, "candidates": method.candidates}
    if method.candidates == "all":
        # Aggregates tried on validation are part of the budget.
        tried = 2 * len({1.0, *data["final"]["aggregate_scales"]})
        if evaluations <= tried:
            raise ConfigError(
                f"a budget of {evaluations} evaluations leaves nothing for the search: {tried} of "
                "them try aggregates; give more"
            )
        evaluations -= tried
    return parse_config({**data, "evaluations": evaluations})
