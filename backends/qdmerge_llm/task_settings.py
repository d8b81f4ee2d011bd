"""Settings of tasks, and the items they stand for."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, field_validator, model_validator

from qdmerge.backend import SIDE, SPLITS
from qdmerge.checkpoints import scheme_name
from qdmerge.errors import ConfigError, Hint, QDMergeError, nearest
from qdmerge.parts import load_target
from qdmerge_llm.items import Item, Split, check_disjoint, read_items, split_items
from qdmerge_llm.sandbox import Sandbox, available
from qdmerge_llm.sources import DEFAULT_SCHEMES, SchemeOf, resolve, source_problem
from qdmerge_llm.tasks import KINDS, TaskKind

Count = PositiveInt | Literal["all"]
_SHOWN = 5  # items of a file that cannot be used


def _lines(path: Path, faults: Mapping[str, str]) -> list[str]:
    """Return lines about the first items of a file that cannot be used."""
    lines = [f"{path}: {name}: {fault}" for name, fault in faults.items()]
    more = [f"{path}: and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return lines[:_SHOWN] + more


class Unlabeled:
    """Reads rows of a kind that may lack what scoring needs, and an ``id``.

    Args:
        kind: The kind.
    """

    def __init__(self, kind: type[TaskKind]) -> None:
        self._kind = kind

    def read(self, row: Mapping[str, Any], number: int) -> Item:
        """Return the item of a row; its number is its ``id`` where it has none."""
        return self._kind.read({"id": str(number), **row}, number)

    def problem(self, item: Item) -> str | None:
        """Return what keeps an item from being asked, or None."""
        return self._kind.unaskable(item)


class _TaskSettings(BaseModel):
    """What is asked and how answers are scored.

    Attributes:
        kind: Name of a task kind ("python", "agentbench_db", ...), or ``module:Class``.
        max_new_tokens: Longest answer (of one turn), in tokens.
        stop: Strings that end an answer, besides those of the kind.
        options: Further options of the kind.
    """

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    kind: str
    max_new_tokens: PositiveInt = 64
    stop: tuple[str, ...] = ()
    options: dict[str, Any] = {}

    def kind_class(self) -> type[TaskKind]:
        """Return the class of the kind; ConfigError if there is none, or it is not a task kind."""
        kind: Any = load_target(KINDS.entry(self.kind).target)
        if not (isinstance(kind, type) and issubclass(kind, TaskKind)):
            raise ConfigError(f"'{self.kind}' is no task kind: not a subclass of TaskKind")
        return kind

    def files(self) -> dict[str, dict[str, int | None]]:
        """Return for each data file the number of items that each split takes; None for all."""
        raise NotImplementedError

    def items(
        self,
        schemes: SchemeOf = DEFAULT_SCHEMES,
        task: TaskKind | None = None,
        left_out: dict[str, str] | None = None,
    ) -> dict[str, list[Item]]:
        """Return the items of each split; ConfigError if any cannot be used, where the kind does
        not leave such out, or they are too few.

        Args:
            schemes: Gives the scheme that a source belongs to.
            task: The ready kind, which tries the items; None reads them only.
            left_out: Receives the name and the fault of each item that is left out.
        """
        chosen: dict[str, list[Item]] = {}
        faults: dict[str, str] = {} if left_out is None else left_out
        for source, counts in self.files().items():
            path = resolve(source, schemes)
            chosen |= self._chosen(path, counts, task, faults)
        check_disjoint(chosen)
        return chosen

    def _chosen(
        self,
        path: Path,
        counts: Mapping[str, int | None],
        task: TaskKind | None,
        left_out: dict[str, str],
    ) -> dict[str, list[Item]]:
        """Return the items that the splits take from a file."""
        kind = self.kind_class()
        faults: dict[str, str] = {}
        items = read_items(path, kind, faults if kind.leaves_out else None)
        while True:
            try:
                found = split_items(items, counts, whole=len(counts) == 1, missing=len(faults))
            except ConfigError as error:
                raise ConfigError("\n".join([f"{path}: {error}", *_lines(path, faults)])) from error
            wrong = task.unusable([i for items in found.values() for i in items]) if task else {}
            more = {f"item '{name}'": reason for name, reason in wrong.items()}
            if more and not kind.leaves_out:
                raise ConfigError("\n".join(_lines(path, more)))
            faults |= more
            if not more:
                break
            items = [item for item in items if item["id"] not in wrong]
        left_out |= {f"{path}: {name}": reason for name, reason in faults.items()}
        return found

    def _task(self) -> Any:
        """Build the kind."""
        return KINDS.build(self.kind, self.options, {"sandbox": Sandbox()})

    def problems(self, schemes: SchemeOf = DEFAULT_SCHEMES) -> list[str]:
        """Return all mistakes; reads and tries the data, unless it would have to be built first."""
        return self.examined(schemes)[0]

    def examined(
        self, schemes: SchemeOf = DEFAULT_SCHEMES
    ) -> tuple[list[str], dict[str, list[Item]]]:
        """Return all mistakes and the items of each split ({} where there are mistakes)."""
        items: dict[str, list[Item]] = {}
        try:
            kind = self.kind_class()
            found = self._lacking(kind) + KINDS.problems(self.kind, self.options)
            reason = None if found else kind.options_problem(self.options)
            found += [reason] if reason else []
        except ConfigError as error:
            found = [str(error)]
        if "" in self.stop:
            found.append("'stop': an empty string ends every answer before it begins; remove it")
        wrong = [source_problem(source, "data", schemes) for source in self.files()]
        found += [problem for problem in wrong if problem]
        if not found and self.files() and not any(map(scheme_name, self.files())):
            left_out: dict[str, str] = {}
            try:
                task = None if available() else self._task()
                items = self.items(task=task, left_out=left_out)
                chosen = [item for split in items.values() for item in split]
                for line in task.remarks(chosen) if task else ():
                    warnings.warn(line, Hint, stacklevel=2)
            except QDMergeError as error:
                found += str(error).split("\n")
            for name, fault in left_out.items():
                warnings.warn(f"{name} is left out: {fault}", Hint, stacklevel=2)
        return found, items

    def _lacking(self, kind: type[TaskKind]) -> list[str]:
        """Return whether data is missing, or given for a kind that brings its own."""
        if kind.side_only and self.files():
            return [f"'data': '{self.kind}' brings its own items; leave 'data' out"]
        if kind.side_only or self.files():
            return []
        return [f"'data' is missing: '{self.kind}' needs a file of items"]

    @property
    def asks_in_conversations(self) -> bool:
        """Whether the kind is known to need a chat template."""
        try:
            return self.kind_class().chat
        except ConfigError:
            return False


class GuideItems(BaseModel):
    """What a task's expert is asked for the guide.

    Attributes:
        data: File of prompts, or a scheme's; rows need no labels. None for the training part of
            the task's own file, where one file is divided into splits.
        examples: Most prompts.
    """

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    data: str | None = None
    examples: PositiveInt = 512


class TaskConfig(_TaskSettings):
    """One task of the search, and how many items each split has.

    Attributes:
        data: File of items, or a scheme's; or one for each split. A file that several
            splits take from is divided by content; one that serves a single split is all its.
        validation: Items that evolution sees: how many, or "all".
        selection: Items that choose the result.
        test: Items scored once, at the end.
        expert: Expert of this task; None means the one of the same name, if there is one.
        guide: Prompts for the guide of a search.
    """

    data: str | dict[str, str]
    validation: Count = 64
    selection: Count = 128
    test: Count = 200
    expert: str | None = None
    guide: GuideItems = GuideItems()

    @model_validator(mode="before")
    @classmethod
    def _of_the_search(cls, given: Any) -> Any:
        try:
            kind = _TaskSettings(kind=given["kind"]).kind_class()
        except (ConfigError, KeyError, TypeError, ValueError):
            return given  # reported as a mistake of the field, or by `examined`
        if kind.side_only:
            raise ValueError(
                f"'{given['kind']}' asks the model itself, which evolution does not do: it is for "
                "tasks under 'side_tasks', not for those of the search"
            )
        return given

    @field_validator("data")
    @classmethod
    def _for_every_split(cls, data: str | dict[str, str]) -> str | dict[str, str]:
        if not isinstance(data, str) and set(data) != set(SPLITS):
            raise ValueError(f"name one file, or one for each of {', '.join(SPLITS)}")
        return data

    def asking(self) -> dict[str, Any]:
        """Return the settings that decide how items are asked, without their source and number."""
        return self.model_dump(mode="json", exclude={"data", "expert", "guide", *SPLITS})

    def calibration(self, count: int, schemes: SchemeOf = DEFAULT_SCHEMES) -> list[Item]:
        """Return items to watch experts on; see :meth:`unscored`."""
        return self.unscored(count, schemes)[1]

    def unscored(self, count: int, schemes: SchemeOf = DEFAULT_SCHEMES) -> tuple[Split, list[Item]]:
        """Return items to ask experts: of no split, where the data has others.

        Args:
            count: Most items.
            schemes: Gives the scheme that a source belongs to.

        Returns:
            "train" and items of the training part of a file that is divided by content; else
            "validation" and those that evolution sees.
        """
        kind = self.kind_class()
        if isinstance(self.data, str):
            items = read_items(resolve(self.data, schemes), kind, {} if kind.leaves_out else None)
            with contextlib.suppress(ConfigError):  # there are none
                return "train", split_items(items, {"train": None})["train"][:count]
        return "validation", self.items(schemes)["validation"][:count]

    def guide_items(self, schemes: SchemeOf = DEFAULT_SCHEMES) -> tuple[str, list[Item]]:
        """Return where the guide's prompts come from, and the prompts.

        Returns:
            The file named for them, else "train" or "validation" (see :meth:`unscored`); and as
            many items, from the beginning of the file.

        Raises:
            ConfigError: The file cannot be read, is empty, or has a row that cannot be asked.
        """
        if self.guide.data is None:
            return self.unscored(self.guide.examples, schemes)
        path = resolve(self.guide.data, schemes)
        kind = self.kind_class()
        left_out: dict[str, str] | None = {} if kind.leaves_out else None
        items = read_items(path, Unlabeled(kind), left_out)[: self.guide.examples]
        if not items:
            raise ConfigError(f"{path}: there are no prompts")
        return self.guide.data, items

    def files(self) -> dict[str, dict[str, int | None]]:
        """Return for each data file the number of items that each split takes; None for all."""
        found: dict[str, dict[str, int | None]] = {}
        for split in SPLITS:
            source = self.data if isinstance(self.data, str) else self.data[split]
            count = getattr(self, split)
            found.setdefault(source, {})[split] = None if count == "all" else count
        return found

    def expert_problems(self, experts: Collection[str]) -> list[str]:
        """Return the problem of an unknown expert."""
        if self.expert is None or self.expert in experts:
            return []
        known = ", ".join(experts)
        return [f"unknown expert '{self.expert}'{nearest(self.expert, experts)} Known: {known}."]


class SideTaskConfig(_TaskSettings):
    """A task that the search does not see, on which its result is scored at the end.

    Attributes:
        data: File of items; None for kinds that bring their own.
        items_used: How many of them, or "all".
    """

    data: str | None = None
    items_used: Count = "all"

    def files(self) -> dict[str, dict[str, int | None]]:
        """Return the data file, if any, and how many of its items are used; None for all."""
        count = None if self.items_used == "all" else self.items_used
        return {} if self.data is None else {self.data: {SIDE: count}}
