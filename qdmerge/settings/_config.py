"""The configuration of a run: YAML in, checked all at once, exact echo out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticUndefined, to_jsonable_python

from qdmerge.archives import AxisSizing
from qdmerge.backend import BackendConfig
from qdmerge.criteria import CriterionName
from qdmerge.errors import ConfigError, nearest
from qdmerge.settings._discovery import find_backend, find_preset
from qdmerge.settings._parts import ArchivePart, EmitterPart, Part, SchedulerPart, SpacePart
from qdmerge.settings._presets import with_recipe
from qdmerge.settings._registry import explain


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AxesConfig(_Settings):
    """How the axes of the archives are sized; see :class:`qdmerge.archives.AxisSizing`."""

    low_margin: Annotated[float, Field(le=1)] = 0.85
    high_margin: Annotated[float, Field(ge=1)] = 1.15
    ranges: dict[str, tuple[float, float]] = {}

    @model_validator(mode="after")
    def _sizing_accepts(self) -> AxesConfig:
        try:
            AxisSizing(**self.model_dump())
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


class ExecutionConfig(_Settings):
    """Where evaluations run.

    Attributes:
        workers: 1 evaluates in the main process, more in that many worker processes.
        threads: CPU threads of each worker; None shares the cores among the workers.
        in_flight: Batches that may be out at once; None for as many as there are workers. Results
            depend on it (a child is made before its elder siblings are scored), but not on timing.
        timeout: Seconds that one evaluation in a worker process may take, on its first one
            including the building of its backend; None for no limit. Needs 2 workers or more.
        retries: How often a failing evaluation is tried again.
        max_failures: Failures in a row that stop the run.
    """

    workers: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] | None = None
    in_flight: Annotated[int, Field(ge=1)] | None = None
    timeout: Annotated[float, Field(gt=0)] | None = None
    retries: Annotated[int, Field(ge=0)] = 1
    max_failures: Annotated[int, Field(ge=1)] = 5

    @model_validator(mode="after")
    def _timeout_has_workers(self) -> ExecutionConfig:
        if self.timeout is not None and self.workers == 1:
            raise ValueError("'timeout' ends worker processes, so it needs 'workers' of at least 2")
        return self


class StartConfig(_Settings):
    """Merges without search that a search begins with, as children after the seeds.

    Attributes:
        recipe: The recipe; see :func:`qdmerge.merges.grid`.
        scales: Of task arithmetic, the weights that all experts share; of regression means, the
            sum of their weights; None for its own.
        tilts: Of ``tilted``, the weight of one expert and that of all others; None for its own.
        ridges: Of ``regmean``, what is added to the diagonals; None for its own.
    """

    recipe: Literal["average", "task_arithmetic", "tilted", "regmean"]
    scales: Annotated[list[FiniteFloat], Field(min_length=1)] | None = None
    tilts: Annotated[list[tuple[FiniteFloat, FiniteFloat]], Field(min_length=1)] | None = None
    ridges: Annotated[list[Annotated[FiniteFloat, Field(gt=0)]], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_axes(self) -> StartConfig:
        axes = {
            "task_arithmetic": ("scales",),
            "tilted": ("tilts",),
            "regmean": ("scales", "ridges"),
        }.get(self.recipe, ())
        for name in ("scales", "tilts", "ridges"):
            if name not in axes and getattr(self, name) is not None:
                raise ValueError(f"recipe '{self.recipe}' has no '{name}'")
        return self


def _start_of(value: Any) -> Any:
    return {"recipe": value} if isinstance(value, str) else value


class FinalConfig(_Settings):
    """The end of a run: which models become candidates, and how one is chosen.

    Attributes:
        choose_by: What is maximized on the selection split: the geometric mean over tasks, the
            mean, the minimum, or a mean with the user's weights. Every other criterion's pick is
            told, too.
        weights: Task name to weight, for the mean with weights.
        leading: How many elites become candidates by each criterion on validation: mean, geometric
            mean, minimum and, if there are weights, the mean with these.
        table: What is scored on the test split: "full" is every candidate, and base, experts and
            recipes without search beside; "picks" is what each criterion picks, and no more.
        candidates: What the choice is made among: "all" is elites and the archives' aggregates,
            "elites" leaves the aggregates out, "children" the experts among the elites, too.
        aggregate_scales: Scales tried on validation for the scaled aggregate.
        task_arithmetic_scales: Scales tried on validation for task arithmetic.
        bootstrap: Resamples of the test items behind the 95 % intervals.
    """

    choose_by: CriterionName = "geometric_mean"
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    leading: Annotated[int, Field(ge=1)] = 5
    table: Literal["full", "picks"] = "full"
    candidates: Literal["all", "elites", "children"] = "all"
    aggregate_scales: Annotated[list[FiniteFloat], Field(min_length=1)] = [1.0, 1.25, 1.5, 1.75]
    task_arithmetic_scales: Annotated[list[FiniteFloat], Field(min_length=1)] = [
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
        1.0,
    ]
    bootstrap: Annotated[int, Field(ge=100)] = 2000

    @model_validator(mode="after")
    def _choice_has_weights(self) -> FinalConfig:
        if self.choose_by == "weights" and not self.weights:
            raise ValueError("'choose_by: weights' needs 'weights'")
        return self


def _backend_from(data: Any) -> BackendConfig:
    """Finds the backend's own settings class by name."""
    if isinstance(data, BackendConfig):
        return data
    settings = dict(data) if isinstance(data, Mapping) else {"name": data}
    name = settings.pop("name", None)
    if not isinstance(name, str):
        raise ValueError("backend needs a name")
    try:
        backend = find_backend(name)
        return backend.model_validate(settings)
    except ValidationError as error:
        raise ValueError("\n".join(explain(error, backend, f"backend '{name}'"))) from error
    except ConfigError as error:
        raise ValueError(str(error)) from error


class RunConfig(_Settings):
    """Everything that decides a run.

    Attributes:
        backend: The domain: a name of ``qdmerge list backends`` and its settings.
        seed: The one seed of the search.
        evaluations: Children to evaluate on validation; the last batch is never cut.
        space: The space of merged models; None for the backend's own choice.
        archive: One archive per task is made from this.
        axes: Ranges of the archives' axes.
        start: Merging recipes whose models are the first children.
        emitters: Each is made for every task's archive.
        scheduler: Which task is active when.
        execution: Where evaluations run.
        final: How the result is chosen.
    """

    backend: Annotated[SerializeAsAny[BackendConfig], BeforeValidator(_backend_from)]
    seed: Annotated[int, Field(ge=0)] = 0
    evaluations: Annotated[int, Field(ge=1)] = 150
    space: SpacePart | None = None
    archive: ArchivePart = Part(name="grid")
    axes: AxesConfig = AxesConfig()
    start: list[Annotated[StartConfig, BeforeValidator(_start_of)]] = []
    emitters: Annotated[list[EmitterPart], Field(min_length=1)] = [Part(name="merge")]
    scheduler: SchedulerPart = Part(name="cycle")
    execution: ExecutionConfig = ExecutionConfig()
    final: FinalConfig = FinalConfig()

    @model_validator(mode="after")
    def _starts_in_its_space(self) -> RunConfig:
        regressing = self.space is not None and self.space.name == "regmean"
        for part in self.start:
            if part.recipe == "regmean" and not regressing:
                raise ValueError("'start': recipe 'regmean' needs 'space: regmean'")
            if part.recipe != "regmean" and regressing:
                raise ValueError(
                    f"'start': recipe '{part.recipe}' is a linear merge, which the space 'regmean' "
                    "cannot express; use 'regmean'"
                )
        return self

    def echo(self) -> dict[str, Any]:
        """This configuration as plain data; every setting written out, parts as they were given."""
        data = self.model_dump(mode="json")
        return {**data, "backend": {"name": self.backend.name, **data["backend"]}}


def parse_config(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Checks a configuration of plain data; looks at nothing beyond it.

    Args:
        data: The configuration.
        overrides: ``"dotted.key=value"`` settings that win over ``data``; values are YAML.

    Raises:
        ConfigError: All mistakes that were found, one per line.
    """
    try:
        return RunConfig.model_validate(_with_overrides(data, overrides))
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, RunConfig))) from error


def load_config(
    source: str | Path,
    overrides: Sequence[str] = (),
    parts: Mapping[str, str | list[str] | None] | None = None,
    models: bool = True,
    recipe: str | None = None,
) -> RunConfig:
    """Reads and checks the configuration of a file, a preset, or a backend's first preset.

    Loads no weights; the backend looks for mistakes of its own (:meth:`BackendConfig.problems`).

    Args:
        source: Path of a YAML file, or a name of ``qdmerge list``.
        overrides: See :func:`parse_config`.
        parts: Configuration key to the part (for ``emitters``, the parts) to use instead; a part
            that the source configures already keeps its options.
        models: Whether the backend looks for mistakes; not before it has made its models.
        recipe: Name of a search preset; wins over the source, but over nothing
            else.

    Raises:
        ConfigError: No such file or name, no YAML mapping, or all mistakes in it, one per line.
    """
    data = _read_yaml(*_source_text(source))
    if recipe is not None:
        data = with_recipe(data, recipe)
    data = _with_parts(data, parts or {})
    data = _with_overrides(data, overrides)
    problems = []
    try:
        config = parse_config(data)
        problems += _unknown_names(config)
    except ConfigError as error:
        problems = str(error).split("\n")
    if models:
        with suppress(ValueError):  # Settings that the backend refuses are among them already.
            problems += _backend_from(data.get("backend")).problems()
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _unknown_names(config: RunConfig) -> list[str]:
    known = config.backend.names()
    if known is None:
        return []
    settings: dict[str, Iterable[str]] = {
        "axes.ranges": config.axes.ranges,
        "final.weights": config.final.weights,
    }
    return [
        f"'{key}': unknown name '{name}'{nearest(name, known)} Known: {', '.join(known)}."
        for key, named in settings.items()
        for name in named
        if name not in known
    ]


def _with_parts(
    data: dict[str, Any], parts: Mapping[str, str | list[str] | None]
) -> dict[str, Any]:
    data = dict(data)
    for key, chosen in parts.items():
        if isinstance(chosen, list):
            data[key] = [_keep_options(data.get(key), name) for name in chosen]
        elif chosen is not None:
            data[key] = _keep_options(data.get(key), chosen)
    return data


def _keep_options(configured: Any, name: str) -> Any:
    listed = configured if isinstance(configured, list) else [configured]
    same = [part for part in listed if isinstance(part, dict) and part.get("name") == name]
    return same[0] if same else name


def read_preset(name: str) -> str:
    """The commented YAML of a preset, or of a backend's first preset.

    Raises:
        ConfigError: Unknown name.
    """
    package, _, path = find_preset(name).partition("/")
    return files(package).joinpath(path).read_text(encoding="utf-8")


def _source_text(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or os.path.isfile(path):
        try:
            return path.read_text(encoding="utf-8"), str(source)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read configuration '{source}': {error}") from error
    return read_preset(str(source)), str(source)


def _read_yaml(text: str, where: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must hold keys and values, but holds {type(data).__name__}")
    return data


def _with_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    merged = dict(data)
    for override in overrides:
        merged = _with_override(merged, override)
    return merged


def _with_override(data: dict[str, Any], override: str) -> dict[str, Any]:
    key, separator, text = override.partition("=")
    if not (separator and key):
        raise ConfigError(f"'{override}' is not of the form key=value (execution.workers=2)")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"'{override}': the value is not valid YAML: {text}") from error
    head, *rest = key.split(".")
    if rest and head not in data and head in RunConfig.model_fields:
        # An option of a default part: archive.bins=10 without any archive in the data.
        default = RunConfig.model_fields[head].get_default()
        if default is not PydanticUndefined:
            data = {**data, head: to_jsonable_python(default)}
    return _set(data, [head, *rest], value, key)


def _set(data: Any, path: list[str], value: Any, key: str) -> Any:
    """A copy of nested data with the value at the path; a named part may stand as its name."""
    if not path:
        return value
    head, *rest = path
    if isinstance(data, list):
        if not (head.isdigit() and int(head) < len(data)):
            raise ConfigError(f"'{key}': a list has positions 0 to {len(data) - 1}, not '{head}'")
        return [_set(v, rest, value, key) if i == int(head) else v for i, v in enumerate(data)]
    if isinstance(data, str):
        data = {"name": data}
    if not isinstance(data, Mapping | None):
        raise ConfigError(f"'{key}': there is nothing called '{head}' inside {data!r}")
    nested = dict(data or {})
    nested[head] = _set(nested.get(head), rest, value, key)
    return nested
