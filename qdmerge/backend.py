"""What a domain brings: tasks, a space of solutions, and the evaluation of models."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, SerializeAsAny, field_validator, model_validator

from qdmerge.checkpoints import Progress as Progress
from qdmerge.checkpoints import (
    Scheme,
    build_scheme,
    scheme_name,
    scheme_names,
    scheme_of,
    with_scheme_options,
)
from qdmerge.errors import ConfigError, EvaluationError, hint_renamed

if TYPE_CHECKING:
    from qdmerge.checkpoints import TaskVectors
    from qdmerge.spaces import Guide, Space, WeightSpace

    SpaceFactory = Callable[[TaskVectors], WeightSpace]

SPLITS = ("validation", "selection", "test")
"""The search sees ``validation``; ``selection`` chooses the result; ``test`` is scored once."""

SIDE = "reported"
"""The split of a backend's side tasks: score columns are :attr:`GenomeBackend.side_tasks`.

It is not one of :data:`SPLITS`, since its tasks are others than those of the search.
"""


@dataclass(frozen=True)
class Task:
    """One skill that a model is scored on; higher scores are better.

    Args:
        name: Name of the task, unique within a backend.
        metric: What the score is, for tables and axes ("pass@1", "mean Dice").
        range: Lowest and highest value the metric can take; infinite ends are allowed.
        expert: Expert that was trained for this task. None means the expert of the same name,
            if there is one.

    Raises:
        ConfigError: ``range`` does not rise.
    """

    name: str
    metric: str = "score"
    range: tuple[float, float] = (0.0, 1.0)
    expert: str | None = None

    def __post_init__(self) -> None:
        if not self.range[0] < self.range[1]:
            raise ConfigError(f"range of task '{self.name}' must rise; got {self.range}")


@dataclass(frozen=True)
class Measure:
    """A behavior descriptor of the domain's own, an axis of every archive.

    Args:
        name: Name of the measure.
        range: Lowest and highest value; finite, since it becomes the range of the axis.

    Raises:
        ConfigError: ``range`` is not finite or does not rise.
    """

    name: str
    range: tuple[float, float]

    def __post_init__(self) -> None:
        if not (np.isfinite(self.range).all() and self.range[0] < self.range[1]):
            raise ConfigError(
                f"range of measure '{self.name}' must be finite and rise; got {self.range}"
            )


@dataclass(frozen=True)
class Evaluation:
    """Scores of n models.

    Args:
        scores: ``(n, K)`` float64, one column per task. A row that is not finite counts as failed.
        measures: ``(n, M)`` float64, the backend's own measures, or None if it has none.
        items: Per model, task name to ``(n_items,)`` scores of single items: what bootstrap
            intervals are computed from. None if the domain has no items, and for a failed model.
        solutions: ``(n, dim)``, what was scored; None where it is what was asked for.
        jacobians: ``(n, K + M, dim)`` gradients of scores and measures, where they were asked for.
        planes: ``(n, K, dim)`` corners of the planes that were learned; see
            :class:`qdmerge.guide.Plane`.
        passes: Gradient passes that a guide took: forward and backward over a batch of items.
        guide_seconds: Wall time of the guide's work.
    """

    scores: np.ndarray
    measures: np.ndarray | None = None
    items: Sequence[Mapping[str, np.ndarray] | None] | None = None
    solutions: np.ndarray | None = None
    jacobians: np.ndarray | None = None
    planes: np.ndarray | None = None
    passes: int = 0
    guide_seconds: float = 0.0

    def checked(self, n: int, n_tasks: int, n_measures: int) -> Evaluation:
        """Return this evaluation as float64 arrays, after a check of their shapes.

        Args:
            n: Number of models that were evaluated.
            n_tasks: Number of tasks, K.
            n_measures: Number of the backend's own measures, M.

        Returns:
            ``(n, K)`` scores and ``(n, M)`` measures, never None.

        Raises:
            EvaluationError: An array has another shape, or items do not cover all models.
        """
        scores = np.asarray(self.scores, dtype=np.float64)
        given = np.empty((n, 0)) if self.measures is None else self.measures
        measures = np.asarray(given, dtype=np.float64)
        for name, array, columns, expected in (
            ("scores", scores, "tasks", (n, n_tasks)),
            ("measures", measures, "measures", (n, n_measures)),
        ):
            if array.shape != expected:
                raise EvaluationError(
                    f"got {name} of shape {array.shape}; expected (models, {columns}) = {expected}"
                )
        if self.items is not None and len(self.items) != n:
            raise EvaluationError(f"got per-item scores of {len(self.items)} models; expected {n}")
        return replace(self, scores=scores, measures=measures)

    @property
    def valid(self) -> np.ndarray:
        """``(n,)`` bool: the rows whose scores, measures and gradients are all finite."""
        valid = np.isfinite(self.scores).all(axis=1)
        for more in (self.measures, self.jacobians):
            if more is not None:
                valid &= np.isfinite(more).all(axis=tuple(range(1, np.ndim(more))))
        return valid


class GenomeBackend(Protocol):
    """A domain. Subclass it to inherit the optional parts, or match the whole protocol.

    :attr:`tasks`, :attr:`space` and :meth:`evaluate` are required; everything else is optional.

    Attributes:
        tasks: The K tasks, in the order of the score columns.
        space: The space whose solutions ``x`` this backend turns into models.
        measures: The M measures of its own, in the order of the columns; () for none.
        guide: What the experts say on unlabeled items, for guided searches; None for none.
        side_tasks: Tasks that the search does not see, such as skills that merging may cost. At
            the end of a run, base, experts, average, aggregate and result are scored on them by
            ``evaluate(xs, SIDE)`` and reported relative to the base. Nothing is chosen by these
            scores. () for none.
    """

    tasks: Sequence[Task]
    space: Space
    measures: Sequence[Measure] = ()
    guide: Guide | None = None
    side_tasks: Sequence[Task] = ()

    def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
        """Score models on all tasks.

        Args:
            xs: ``(n, dim)`` solutions of :attr:`space`.
            split: "validation", "selection" or "test", disjoint by content; or, for a backend
                with side tasks, :data:`~qdmerge.backend.SIDE`.

        Returns:
            Scores of the n models, in order. Columns are :attr:`tasks`; for ``SIDE`` they are
            :attr:`side_tasks`, without measures.
        """
        ...

    def export(self, x: np.ndarray, path: str | Path) -> Path:
        """Write the model of solution ``x`` as a checkpoint that loads without qdmerge."""
        raise NotImplementedError(f"{type(self).__name__} cannot export models")

    def export_adapter(self, x: np.ndarray, path: str | Path) -> Path:
        """Write the model of ``x`` as a LoRA adapter on the base: ``qdmerge export --adapter``.

        A :class:`~qdmerge.spaces.WeightSpace` of LoRA experts has a method of that name.
        """
        raise NotImplementedError(
            f"{type(self).__name__} exports no LoRA adapters; leave --adapter out for a whole model"
        )

    def illustrate(self, models: Mapping[str, np.ndarray], folder: Path) -> Sequence[Path]:
        """Draw what models do on held-out examples, in figures of the domain's own.

        A run calls it at its end; exceptions become warnings, and the run still succeeds.
        ``qdmerge report RUN --examples`` calls it again.

        Args:
            models: Name to ``(dim,)`` solution: base, experts (``"expert:NAME"``), the plain
                average if the space can merge, and last the chosen model under its name in the
                results.
            folder: The run's folder of figures; it exists. Files of the same names are replaced.

        Returns:
            Paths of the figures in ``folder``.
        """
        return ()

    def facts(self) -> dict[str, Any]:
        """Return JSON-able facts for the run's log: device, number of items, sandbox, and so on.

        ``"weights"`` and ``"items"``, if given, are content hashes; a run is not resumed if they
        have changed.
        """
        return {}

    def close(self) -> None:
        """Release what the backend holds."""
        return None  # an empty body would count as abstract for type checkers  # noqa: RET501


def side_tasks(backend: GenomeBackend) -> Sequence[Task]:
    """Return a backend's side tasks; () for one that has none."""
    found: Sequence[Task] = getattr(backend, "side_tasks", ())
    if not found and (found := getattr(backend, "reported", ())):
        hint_renamed(f"{type(backend).__name__}.reported", "side_tasks")
    return found


class BackendConfig(BaseModel):
    """Settings of a backend, from which it is built; target of the entry point.

    It must be picklable, since worker processes build a backend of their own from it, and its
    import must stay cheap (no torch).

    Attributes:
        name: Name in configurations and on the command line.
        summary: One line for ``qdmerge list``.
        presets: Preset name to the resource of its commented YAML, ``"package/path/in/it.yaml"``;
            the first one is what ``qdmerge run NAME`` runs, unless an installed scheme brings one.
        renamed: Former name of a setting to its name now. Former names are still read, with a
            hint.
        guided: Whether its backends have a guide.
        sources: Options of the schemes that sources ``NAME://part`` refer to, by name of the
            scheme; see :class:`qdmerge.checkpoints.Scheme`.
    """

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, str]] = {}
    renamed: ClassVar[Mapping[str, str]] = {}
    guided: ClassVar[bool] = False

    sources: dict[str, SerializeAsAny[Scheme]] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_renamed(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        settings = dict(given)
        for old, new in cls.renamed.items():
            if old in settings and new not in settings:
                hint_renamed(f"backend.{old}", f"backend.{new}")
                settings[new] = settings.pop(old)
        return settings

    @model_validator(mode="before")
    @classmethod
    def _read_old_keys(cls, data: Any) -> Any:
        """Read ``SCHEME_OPTION`` as ``sources.SCHEME.OPTION``; of both, what is given last wins."""
        if not isinstance(data, Mapping) or data.keys() <= cls.model_fields.keys():
            return data
        return with_scheme_options(data, cls.model_fields, cls.name)

    @field_validator("sources", mode="before")
    @classmethod
    def _build_schemes(cls, sources: Any) -> Any:
        if not isinstance(sources, Mapping):
            return sources
        built, problems = {}, []
        for name, options in sources.items():
            try:
                built[name] = build_scheme(name, cls.name, options)
            except ConfigError as error:
                problems += str(error).split("\n")
        if problems:
            raise ValueError("\n".join(problems))
        return built

    @model_validator(mode="after")
    def _write_out_schemes(self) -> Self:
        """Keep the options of the schemes that are used, and of others where they are set."""
        named = {scheme_name(source) for source in self.named_sources()}
        used = [name for name in scheme_names() if name in named]
        kept = {name: build_scheme(name, self.name, self.sources.get(name, {})) for name in used}
        others = {k: v for k, v in self.sources.items() if v.model_dump(exclude_defaults=True)}
        self.__dict__["sources"] = dict(sorted((kept | others).items()))
        return self

    def problems(self) -> list[str]:
        """Return all mistakes that show without loading weights."""
        return []

    def names(self) -> list[str] | None:
        """Return the names of tasks and measures that settings refer to; None if not known yet."""
        return None

    def model_sources(self) -> Mapping[str, str]:
        """Return where base and experts come from, by name, the base first; {} without models."""
        return {}

    def data_sources(self) -> Sequence[str]:
        """Return where the tasks' data come from."""
        return ()

    def named_sources(self) -> list[str]:
        """Return all sources that these settings name, each once."""
        return list(dict.fromkeys([*self.model_sources().values(), *self.data_sources()]))

    def scheme(self, source: str) -> Scheme | None:
        """Return the scheme that a source belongs to, with its options; None for paths and Hub ids.

        Raises:
            ConfigError: Unknown scheme, or one that has nothing for this backend.
        """
        return scheme_of(source, self.name, self.sources)

    def prepare(self, progress: Progress) -> None:
        """Make what building needs and takes long (downloads, caches), before workers start.

        By default, what the schemes of the named sources make.

        Args:
            progress: Receives stage, steps done, and steps of the stage.
        """
        for source in self.named_sources():
            if scheme := self.scheme(source):
                scheme.resolve(source, progress)

    def make_experts(self, progress: Progress) -> Mapping[str, Path]:
        """Make the models that these settings name and that are missing.

        Args:
            progress: Receives stage, steps done, and steps of the stage.

        Returns:
            Name to path of the models made.
        """
        raise NotImplementedError(f"backend '{self.name}' cannot make experts")

    def multitask(self) -> Self | None:
        """Return these settings with one expert, ``"all"``: the base fine-tuned on all tasks' data.

        Their :meth:`prepare` makes that model. Tasks and items stay the same, so scores compare.

        Returns:
            The settings; None if this backend cannot train such a model.
        """
        return None

    def all_tasks_source(self, sources: Collection[str]) -> str | None:
        """Return the source of the base fine-tuned on all tasks, for :meth:`multitask`.

        None if ``sources`` do not all come from one scheme that has such a model.
        """
        if len({scheme_name(source) for source in sources}) != 1:
            return None
        scheme = self.scheme(next(iter(sources)))
        return scheme.all_tasks if scheme else None

    def training_cost(self) -> dict[str, float] | None:
        """Return what it cost to fine-tune the expert of :meth:`multitask`; for those settings.

        Returns:
            ``"steps"`` (optimizer steps), ``"examples"`` (training examples over all steps) and
            ``"seconds"`` (wall time); None for other settings, or before :meth:`prepare`.
        """
        experts = list(self.model_sources().values())[1:]
        scheme = self.scheme(experts[0]) if len(experts) == 1 else None
        return scheme.training_cost(experts[0]) if scheme else None

    def build(self, space: SpaceFactory | None) -> GenomeBackend:
        """Build the backend.

        Args:
            space: Makes the space from the task vectors; None for the backend's own choice.
        """
        raise NotImplementedError
