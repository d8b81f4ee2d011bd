"""Settings of a backend, from which it is built."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, SerializeAsAny, field_validator, model_validator

from qdmerge.backend._protocol import GenomeBackend
from qdmerge.checkpoints import (
    Progress,
    Scheme,
    build_scheme,
    scheme_name,
    scheme_names,
    scheme_of,
    with_scheme_options,
)
from qdmerge.errors import ConfigError, hint_renamed

if TYPE_CHECKING:
    from qdmerge.checkpoints import TaskVectors
    from qdmerge.spaces import WeightSpace

SpaceFactory = Callable[["TaskVectors"], "WeightSpace"]
"""Makes a space from the task vectors."""


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
