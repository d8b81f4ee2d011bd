"""The scheme ``tiny://``: parts of generated test beds, built on first use."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from qdmerge.checkpoints import Progress, Scheme, SourceKind
from qdmerge.errors import ConfigError, nearest
from qdmerge.storage import cache_dir
from qdmerge_zoo._zoos import ALL, Zoos, ZooSpec

_PREFIX = "tiny://"
_ALL = f"{_PREFIX}{ALL}"
_READY: dict[tuple[Scheme, Path, bool], Path] = {}
"""What this process has found intact in the cache: a check reads all files of an entry."""


class Tiny(Scheme):
    """Zoos: a base, its experts and their data, generated from seeds, never downloaded.

    Attributes:
        seed: Seed of the zoo.
        conflict: How much its experts get in each other's way, from 0 (easy to merge) to 3.
    """

    presets: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "llm": {
            "llm-tiny": "qdmerge_zoo/presets/llm-tiny.yaml",
            "llm-conflict": "qdmerge_zoo/presets/llm-conflict.yaml",
            "llm-conflict-4": "qdmerge_zoo/presets/llm-conflict-4.yaml",
            "llm-conflict-6": "qdmerge_zoo/presets/llm-conflict-6.yaml",
        },
        "segmentation": {
            "segmentation-tiny": "qdmerge_zoo/presets/segmentation-tiny.yaml",
            "segmentation-conflict": "qdmerge_zoo/presets/segmentation-conflict.yaml",
            "segmentation-conflict-6": "qdmerge_zoo/presets/segmentation-conflict-6.yaml",
        },
    }

    seed: NonNegativeInt = 0
    conflict: int = Field(0, ge=0, le=3)

    @classmethod
    def for_backend(cls, backend: str) -> type[Scheme]:
        """Return the options of the zoos of language models, or of segmentation models.

        Raises:
            ConfigError: There are no zoos for the backend.
        """
        found: dict[str, type[Scheme]] = {"llm": TinyLLM, "segmentation": TinySegmentation}
        if backend not in found:
            raise ConfigError(
                f"'{_PREFIX}' has nothing for backend '{backend}', only for {', '.join(found)}"
            )
        return found[backend]


class _Zoo(Tiny):
    """What both backends' zoos share; ``data_part`` is a task's data, with ``{}`` for its name."""

    data_part: ClassVar[str]
    tasks: int

    @property
    def spec(self) -> ZooSpec:
        """The specification of the zoo."""
        return self._zoos().spec(self.seed, self.conflict, self.tasks)

    @property
    def all_tasks(self) -> str | None:
        """Source of the base fine-tuned on all tasks of the zoo."""
        return _ALL

    def problem(self, source: str, what: SourceKind) -> str | None:
        """Return that the zoo lacks a part, with the nearest one, or None."""
        every = self._zoos().tasks
        part, names = source.removeprefix(_PREFIX), self._parts(every[: self.tasks], what)
        if part in names:
            return None
        if part in self._parts(every, what):
            return (
                f"no '{source}' in a zoo of {self.tasks} tasks; set sources.tiny.tasks to "
                f"{len(every)}"
            )
        return f"no '{source}'{nearest(part, names)} Known: {', '.join(names)}."

    def resolve(self, source: str, progress: Progress) -> Path:
        """Return the path of a part of the zoo; build the zoo if it is missing."""
        spec, whole = self.spec, source != _ALL
        key = self, cache_dir(), whole
        if key not in _READY:
            build = self._zoos().zoo if whole else self._zoos().multitask
            _READY[key] = build(spec, progress=progress)
        if not whole:
            return _READY[key]
        part = source.removeprefix(_PREFIX)
        is_data = part in self._parts(spec.names, "data")
        return _READY[key] / ("data" if is_data else "") / Path(part).name

    def training_cost(self, source: str) -> dict[str, float] | None:
        """Return what the base fine-tuned on all tasks cost to train, once it is built."""
        return self._zoos().multitask_cost(self.spec) if source == _ALL else None

    def _parts(self, tasks: tuple[str, ...], what: SourceKind) -> list[str]:
        if what == "data":
            return [self.data_part.format(task) for task in tasks]
        return ["base", *tasks, ALL]

    @abstractmethod
    def _zoos(self) -> Zoos[Any]:
        """Return the zoos of the backend."""


class TinyLLM(_Zoo):
    """The zoos of language models.

    Attributes:
        tasks: How many tasks a zoo has: coding, db, os; regex; joins, sed.
    """

    data_part: ClassVar[str] = "{}.jsonl"
    tasks: Literal[3, 4, 6] = 3

    def _zoos(self) -> Zoos[Any]:
        from qdmerge_zoo.llm import ZOOS

        return ZOOS


class TinySegmentation(_Zoo):
    """The zoos of segmentation models.

    Attributes:
        tasks: How many tasks a zoo has: camouflage, polyp, skeleton, leaf; crack, focus.
    """

    data_part: ClassVar[str] = "data/{}"
    tasks: Literal[4, 6] = 4

    def _zoos(self) -> Zoos[Any]:
        from qdmerge_zoo.segmentation import ZOOS

        return ZOOS
