"""Factories of parts by name, as a search takes them; picklable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from qdmerge.errors import ConfigError
from qdmerge.parts._named import ARCHIVES, EMITTERS, SCHEDULERS, Part
from qdmerge.parts._registry import Registry, load_target

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase
    from ribs.emitters import EmitterBase

    from qdmerge.archives import ArchiveSpec
    from qdmerge.emitters import EmitterSpec
    from qdmerge.schedulers import TaskScheduler


@dataclass(frozen=True)
class _Named:
    part: Part
    registry: ClassVar[Registry]

    @classmethod
    def of(cls, given: str | Mapping[str, Any] | Part) -> Any:
        """Return the factory of a part by its name, or its name with options.

        Raises:
            ConfigError: Unknown name, or an option that the part does not take.
        """
        try:
            part = Part.model_validate(given)
        except ValidationError as error:
            raise ConfigError(
                f"{cls.registry.kind} {given!r} is neither a name nor a mapping with a 'name'"
            ) from error
        if problems := cls.registry.problems(part.name, part.options):
            raise ConfigError("\n".join(problems))
        return cls(part)

    @property
    def target(self) -> Callable[..., Any]:
        """What the name stands for."""
        return load_target(self.registry.entry(self.part.name).target)

    def __repr__(self) -> str:
        options = "".join(f", {key}={value!r}" for key, value in self.part.options.items())
        return f"{self.part.name!r}{options}"

    def _build(self, context: Mapping[str, Any]) -> Any:
        return self.registry.build(self.part.name, self.part.options, context)


@dataclass(frozen=True, repr=False)
class NamedArchive(_Named):
    """Makes archives of a name, such as ``NamedArchive.of("cvt")``."""

    registry: ClassVar[Registry] = ARCHIVES

    @property
    def fresh(self) -> bool:
        """Whether each call makes a new archive, as classes do; functions may keep theirs."""
        target = self.target
        return inspect.isclass(target) or target.__module__.partition(".")[0] == "qdmerge"

    def __call__(self, spec: ArchiveSpec) -> ArchiveBase:
        """Make the archive of a task."""
        return self._build(spec.context)


@dataclass(frozen=True, repr=False)
class NamedEmitter(_Named):
    """Makes emitters of a name."""

    registry: ClassVar[Registry] = EMITTERS

    def __call__(self, archive: ArchiveBase, spec: EmitterSpec) -> EmitterBase:
        """Make the emitter of a task's archive."""
        return self._build({"archive": archive, **spec.context})


@dataclass(frozen=True, repr=False)
class NamedScheduler(_Named):
    """Makes schedulers of a name."""

    registry: ClassVar[Registry] = SCHEDULERS

    def __call__(
        self,
        archives: Mapping[str, ArchiveBase],
        emitters: Mapping[str, Sequence[EmitterBase]],
        seed: int = 0,
    ) -> TaskScheduler:
        """Make the scheduler of a search."""
        return self._build({"archives": archives, "emitters": emitters, "seed": seed})
