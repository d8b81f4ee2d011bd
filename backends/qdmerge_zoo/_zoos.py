"""Zoos in the cache: built once, whole or not at all, checked on every use.

A model that is fine-tuned on all tasks is an entry of its own beside its zoo.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from qdmerge.checkpoints import Progress, silent
from qdmerge.storage import built_once, cache_dir, intact

ALL = "all"
"""The model that is fine-tuned on all tasks."""
FACTS = "recipe.json"
"""The file of a zoo's settings and versions, and of what was measured."""
_VERSION = 1
"""Raised whenever code makes another zoo from the same settings."""


class ZooSpec(BaseModel):
    """Every number that decides what the models of a zoo become.

    Attributes:
        later: Fields that zoos were built without; they are left out of the key at their defaults.
        seed: Decides data, initial weights and the order of the batches.
    """

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    later: ClassVar[tuple[str, ...]] = ()

    seed: int = 0

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the tasks, which are those of the experts too."""

    @property
    def key(self) -> str:
        """The name of the zoo: version and a hash of every setting."""
        digest = hashlib.sha256(self.dump().encode()).hexdigest()
        return f"v{_VERSION}-{digest[:12]}"

    @property
    def unset(self) -> set[str]:
        """The fields of :attr:`later` that are at their defaults."""
        fields = type(self).model_fields
        return {
            name
            for name in self.later
            if getattr(self, name) == fields[name].get_default(call_default_factory=True)
        }

    @abstractmethod
    def dump(self) -> str:
        """Return the settings as JSON, whose text decides the key."""


S = TypeVar("S", bound=ZooSpec)


@dataclass(frozen=True)
class Zoos(Generic[S]):
    """The zoos of one backend.

    Attributes:
        backend: Name of the backend.
        title: What a zoo is, in the plural, for messages.
        spec: The specification of a zoo from seed, conflict and number of tasks.
        tasks: Names of the tasks of the largest zoo.
        build: Builds the zoo of a specification in an empty folder.
        build_all: Fine-tunes the base of a zoo on all its tasks: gets specification, folder of the
            zoo, and an empty folder.
        cost: What the model in a folder that `build_all` has filled cost to train.
    """

    backend: str
    title: str
    spec: Callable[[int, int, Any], S]
    tasks: tuple[str, ...]
    build: Callable[[S, Path, Progress], None]
    build_all: Callable[[S, Path, Path, Progress], None]
    cost: Callable[[S, Path], dict[str, float]]

    def zoo(self, spec: S, cache: Path | str | None = None, progress: Progress = silent) -> Path:
        """Return the folder of a zoo, built if necessary.

        Args:
            spec: Its specification.
            cache: Where zoos are kept; default ``$QDMERGE_CACHE`` or the platform's cache folder.
            progress: Receives the progress of building.

        Returns:
            A folder with ``base/``, one for each expert under the name of its task (each loads
            with transformers), ``data/``, and ``recipe.json``.

        Raises:
            RunError: The cache cannot be written, or a training fails.
        """
        entry = self._entry(spec, cache)
        return built_once(entry, lambda folder: self.build(spec, folder, progress), self.title)

    def multitask(
        self, spec: S, cache: Path | str | None = None, progress: Progress = silent
    ) -> Path:
        """Return the folder of a zoo's base fine-tuned on all tasks; both built if necessary.

        It takes as many steps as all experts together, on the training data of all tasks evenly.

        Args:
            spec: The specification of the zoo.
            cache: See :meth:`zoo`.
            progress: Receives the progress of building.

        Raises:
            RunError: The cache cannot be written, or a training fails.
        """
        whole = self.zoo(spec, cache, progress)
        entry = built_once(
            self._entry(spec, cache, all_tasks=True),
            lambda folder: self.build_all(spec, whole, folder, progress),
            self.title,
        )
        return entry / ALL

    def multitask_cost(self, spec: S, cache: Path | str | None = None) -> dict[str, float] | None:
        """Return what the model of :meth:`multitask` cost to train; None if it is not built yet.

        Returns:
            ``{"steps": optimizer steps, "examples": training examples, "seconds": wall time}``.
        """
        entry = self._entry(spec, cache, all_tasks=True)
        return self.cost(spec, entry) if intact(entry) else None

    def _entry(self, spec: S, cache: Path | str | None, all_tasks: bool = False) -> Path:
        name = f"{self.backend}-tiny-{spec.key}" + (f"-{ALL}" if all_tasks else "")
        return (Path(cache) if cache else cache_dir()) / name


def write_facts(
    spec: ZooSpec, folder: Path, packages: Sequence[str], started: float, **measured: Any
) -> None:
    """Write settings, versions of ``packages`` and what was measured beside the models that were
    built; ``started`` is :func:`time.perf_counter` when building began.
    """
    versions = {name: version(name) for name in packages}
    facts = {
        "version": _VERSION,
        "settings": json.loads(spec.dump()),
        "versions": {"python": platform.python_version(), **versions},
        **measured,
        "seconds": round(time.perf_counter() - started, 1),
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
