"""Settings of the language model backend; importing them loads neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from qdmerge.backend import SPLITS, BackendConfig
from qdmerge.errors import ConfigError
from qdmerge.registry import load_target, nearest
from qdmerge.sources import is_hub_id
from qdmerge.spaces import checkpoint_problems
from qdmerge_llm import sandbox
from qdmerge_llm.items import Item, read_items, split_items
from qdmerge_llm.sources import is_tiny, resolve, source_problem
from qdmerge_llm.tasks import KINDS, TaskKind

if TYPE_CHECKING:
    from qdmerge.backend import SpaceFactory
    from qdmerge_llm.backend import LLMBackend


class TaskConfig(BaseModel):
    """One task: what is asked, how answers are scored, and how many items each split has.

    Attributes:
        kind: Name of a task kind ("python", "sql", "shell"), or ``module:Class``.
        data: JSON lines file of items, or ``tiny://NAME.jsonl``.
        validation: Items that evolution sees.
        selection: Items that choose the result.
        test: Items scored once, at the end.
        max_new_tokens: Longest answer, in tokens.
        stop: Strings that end an answer, besides those of the kind.
        expert: Expert of this task; None means the one of the same name, if there is one.
        options: Further options of the kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    data: str
    validation: PositiveInt = 64
    selection: PositiveInt = 128
    test: PositiveInt = 200
    max_new_tokens: PositiveInt = 64
    stop: tuple[str, ...] = ()
    expert: str | None = None
    options: dict[str, Any] = {}

    @property
    def counts(self) -> dict[str, int]:
        """Number of items asked for, per split."""
        return {split: getattr(self, split) for split in SPLITS}

    def kind_class(self) -> type[TaskKind]:
        """The class of the kind.

        Raises:
            ConfigError: There is no such kind, or it is not a task kind.
        """
        kind: Any = load_target(KINDS.entry(self.kind).target)
        if not (isinstance(kind, type) and issubclass(kind, TaskKind)):
            raise ConfigError(f"'{self.kind}' is no task kind: not a subclass of TaskKind")
        return kind


class LLMConfig(BackendConfig):
    """Language models that are merged, and the tasks they are scored on.

    Attributes:
        base: Directory, Hub id, or ``tiny://base``.
        experts: Expert name to directory, Hub id, or ``tiny://NAME``; fine-tuned from ``base``.
        tasks: Task name to its settings; the order is that of the score columns.
        batch_size: Prompts decoded together.
        dtype: Number type that models run in.
        device: "cpu", "cuda", "cuda:N", or "auto" (a GPU if there is one).
        allow_unsandboxed: Execute answers without a sandbox where none works.
        tiny_seed: Seed of the tiny zoo that ``tiny://`` refers to.
    """

    name: ClassVar[str] = "llm"
    summary: ClassVar[str] = "causal language models; tasks that execute what the model writes"
    presets: ClassVar[Mapping[str, str]] = {"llm-tiny": "qdmerge_llm/presets/tiny.yaml"}

    base: str
    experts: dict[str, str] = Field(min_length=1)
    tasks: dict[str, TaskConfig] = Field(min_length=1)
    batch_size: PositiveInt = 64
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    allow_unsandboxed: bool = False
    tiny_seed: int = Field(0, ge=0)

    def problems(self) -> list[str]:
        """All mistakes that show without loading weights, building or downloading anything."""
        found = self._model_problems()
        for name, task in self.tasks.items():
            found += [f"task '{name}': {line}" for line in self._task_problems(task)]
        reason = None if self.allow_unsandboxed else sandbox.available()
        if reason:
            found.append(sandbox.refusal(reason))
        return found

    def names(self) -> list[str]:
        """Names of the tasks."""
        return list(self.tasks)

    def _model_problems(self) -> list[str]:
        sources = {"base": self.base, **{f"expert '{k}'": v for k, v in self.experts.items()}}
        wrong = {who: source_problem(source, data=False) for who, source in sources.items()}
        found = [f"{who}: {problem}" for who, problem in wrong.items() if problem]
        if "base" in self.experts:
            found.append("an expert cannot be named 'base'; that name is the base model's")

        def here(source: str) -> bool:
            return not is_tiny(source) and not is_hub_id(source)

        local = {k: v for k, v in self.experts.items() if here(v) and not wrong[f"expert '{k}'"]}
        local.pop("base", None)
        if local and here(self.base) and not wrong["base"]:
            experts = {name: resolve(source, self.tiny_seed) for name, source in local.items()}
            found += checkpoint_problems(resolve(self.base, self.tiny_seed), experts)
        return found

    def _task_problems(self, task: TaskConfig) -> list[str]:
        found = []
        if task.expert is not None and task.expert not in self.experts:
            hint = nearest(task.expert, self.experts)
            known = ", ".join(self.experts)
            found.append(f"unknown expert '{task.expert}'{hint} Known: {known}.")
        try:
            task.kind_class()
            kind_problems = KINDS.problems(task.kind, task.options)
        except ConfigError as error:
            kind_problems = [str(error)]
        found += kind_problems
        problem = source_problem(task.data, data=True)
        if problem:
            found.append(problem)
        elif not kind_problems and not is_tiny(task.data):
            try:
                self.items(task)
            except ConfigError as error:
                found.append(str(error))
        return found

    def items(self, task: TaskConfig) -> dict[str, list[Item]]:
        """The items of a task, per split.

        Raises:
            ConfigError: The data cannot be read, or is too little.
        """
        path: Path = resolve(task.data, self.tiny_seed)
        kind = task.kind_class()
        items = read_items(path, kind.problem)
        try:
            chosen = split_items(items, task.counts)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        for item in (item for items in chosen.values() for item in items):
            if reason := kind.unusable(item):
                raise ConfigError(f"{path}: item '{item['id']}': {reason}")
        return chosen

    def prepare(self, progress: Callable[[str, int, int], None]) -> None:
        """Builds the tiny zoo if it is referred to and not built yet."""
        sources = [self.base, *self.experts.values(), *(t.data for t in self.tasks.values())]
        if any(map(is_tiny, sources)):
            from qdmerge_llm.tiny import zoo

            zoo(seed=self.tiny_seed, progress=progress)

    def build(self, space: SpaceFactory | None = None) -> LLMBackend:
        """Loads the base model and the items; builds the tiny zoo or downloads models when needed.

        Args:
            space: Makes the space from the task vectors; None for the spectral space.
        """
        from qdmerge_llm.backend import LLMBackend

        return LLMBackend.from_config(self, space)
