"""Settings of the language model backend; importing them loads neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from qdmerge.backend import SIDE, SPLITS, BackendConfig, Progress
from qdmerge.checkpoints import checkpoint_problems, missing
from qdmerge.errors import ConfigError, QDMergeError, nearest
from qdmerge_llm import sandbox
from qdmerge_llm.items import Item, leaked_items, shared_item
from qdmerge_llm.models import Base, made_otherwise, template_problem
from qdmerge_llm.sources import (
    TINY_ALL,
    TINY_TASKS,
    is_here,
    is_local,
    is_tiny,
    resolve,
    source_problem,
    tiny_task,
)
from qdmerge_llm.task_settings import SideTaskConfig, TaskConfig
from qdmerge_llm.training import LoRAConfig

if TYPE_CHECKING:
    from qdmerge.backend import SpaceFactory
    from qdmerge_llm.backend import LLMBackend
    from qdmerge_zoo.llm import Recipe


class TrainingConfig(BaseModel):
    """How `qdmerge experts` makes an expert that is not there yet: as a LoRA adapter.

    Attributes:
        data: Its training conversations, JSON lines with ``messages``.
        lora: Settings of the fine-tuning.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    lora: LoRAConfig = LoRAConfig()


class LLMConfig(BackendConfig):
    """Language models that are merged, and the tasks they are scored on.

    Attributes:
        base: Directory, Hub id, GGUF file, or ``tiny://base``.
        experts: Expert name to directory (of a whole model, or of a LoRA adapter), Hub id, or
            ``tiny://NAME``; fine-tuned from ``base``. ``tiny://all`` is the tiny base fine-tuned
            on all its tasks.
        tasks: Task name to its settings; the order is that of the score columns.
        side_tasks: Tasks that the search does not see; base, experts, average, aggregate and result
            are scored on them at the end.
        chat_template: Jinja file that turns a conversation into a prompt; None for the model's
            own.
        batch_size: Prompts decoded together.
        dtype: Number type that models run in; "auto" is bfloat16 where the processor or GPU
            computes in it, else float32.
        device: "cpu", "cuda", "cuda:N", or "auto" (a GPU if there is one).
        training: Expert name to how it is made if it is missing.
        allow_unsandboxed: Execute answers without a sandbox where none works.
        tiny_seed: Seed of the tiny zoo that ``tiny://`` refers to.
        tiny_tasks: How many tasks that zoo has.
        tiny_conflict: How much its experts get in each other's way, from 0 (easy to merge) to 3.
    """

    name: ClassVar[str] = "llm"
    summary: ClassVar[str] = "causal language models; tasks that execute what the model writes"
    presets: ClassVar[Mapping[str, str]] = {
        "llm-tiny": "qdmerge_zoo/presets/llm-tiny.yaml",
        "llm-conflict": "qdmerge_zoo/presets/llm-conflict.yaml",
        "llm-conflict-4": "qdmerge_zoo/presets/llm-conflict-4.yaml",
        "llm-conflict-6": "qdmerge_zoo/presets/llm-conflict-6.yaml",
    }

    renamed: ClassVar[Mapping[str, str]] = {"reported": "side_tasks"}

    base: str
    experts: dict[str, str] = Field(min_length=1)
    tasks: dict[str, TaskConfig] = Field(min_length=1)
    side_tasks: dict[str, SideTaskConfig] = Field(default_factory=dict)
    chat_template: str | None = None
    batch_size: PositiveInt = 64
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    training: dict[str, TrainingConfig] = Field(default_factory=dict)
    allow_unsandboxed: bool = False
    tiny_seed: int = Field(0, ge=0)
    tiny_tasks: Literal[3, 4, 6] = 3
    tiny_conflict: int = Field(0, ge=0, le=3)

    def problems(self) -> list[str]:
        """All mistakes that show without loading weights, building or downloading anything."""
        found = self._model_problems() + self._training_problems() + self._tiny_problems()
        items: dict[str, dict[str, list[Item]]] = {}
        for name, task in self.tasks.items():
            lines, items[name] = task.examined()
            lines = task.expert_problems(self.experts) + lines
            found += [f"task '{name}': {line}" for line in lines]
        for name, side in self.side_tasks.items():
            lines, more = side.examined()
            found += [f"side task '{name}': {line}" for line in lines]
            found += self._seen_problems(name, more.get(SIDE, []), items)
            items.setdefault(name, more)
        found += self._leaks(items)
        found += [
            f"side task '{name}': a task of the search has that name too; choose another"
            for name in self.side_tasks
            if name in self.tasks
        ]
        reason = None if self.allow_unsandboxed else sandbox.available()
        if reason:
            found.append(sandbox.refusal(reason))
        return found

    def names(self) -> list[str]:
        """Names of the tasks."""
        return list(self.tasks)

    def tiny_recipe(self) -> Recipe:
        """The recipe of the zoo that ``tiny://`` refers to."""
        from qdmerge_zoo.llm import Recipe

        return Recipe.conflicting(self.tiny_conflict, self.tiny_tasks, self.tiny_seed)

    def _tiny_sources(self) -> list[str]:
        """All that is named of the tiny zoo."""
        asked = [*self.tasks.values(), *self.side_tasks.values()]
        data = [source for task in asked for source in task.files()]
        return list(filter(is_tiny, [self.base, *self.experts.values(), *data]))

    def _tiny_problems(self) -> list[str]:
        """Parts that the tiny zoo has only with more tasks."""
        there = TINY_TASKS[: self.tiny_tasks]
        lacking = {source: tiny_task(source) for source in self._tiny_sources()}
        return [
            f"'{source}': the zoo of `tiny_tasks: {self.tiny_tasks}` has {', '.join(there)}; "
            f"give it more tasks (at most {len(TINY_TASKS)})"
            for source, task in lacking.items()
            if task and task not in there
        ]

    def _model_problems(self) -> list[str]:
        wrong = {name: source_problem(v, "expert") for name, v in self.experts.items()}
        # Its place, not a model on the Hub, whatever it looks like.
        wrong |= {name: missing("directory", self.experts[name]) for name in self._to_be_made()}
        lines = {f"expert '{name}'": problem for name, problem in wrong.items()}
        lines = {"base": source_problem(self.base, "base"), **lines}
        found = [f"{who}: {problem}" for who, problem in lines.items() if problem]
        if any(self._to_be_made()):
            found.append("`qdmerge experts` makes the experts that are missing")
        if "base" in self.experts:
            found.append("an expert cannot be named 'base'; that name is the base model's")
        local = {k: v for k, v in self.experts.items() if is_here(v) and not wrong[k]}
        local.pop("base", None)
        experts = {name: resolve(source) for name, source in local.items()}
        try:
            base = Base(self.base) if is_local(self.base) and not lines["base"] else None
            if experts:
                found += base.problems(experts) if base else checkpoint_problems(None, experts)
        except QDMergeError as error:
            base = None
            found.append(f"base: {error}")
        asked = {**self.tasks, **self.side_tasks}
        chats = [f"'{name}'" for name, task in asked.items() if task.asks_in_conversations]
        problem = template_problem(self.chat_template, base, chats)
        return found + ([problem] if problem else []) + self._stale(experts, base)

    def _stale(self, experts: Mapping[str, Path], base: Base | None) -> list[str]:
        """Adapters that `qdmerge experts` made of something else than it would now."""
        found = []
        for name, path in experts.items():
            made = self.training.get(name)
            how = (Path(made.data).expanduser(), made.lora) if made else None
            if problem := made_otherwise(path, base, how):
                found.append(f"expert '{name}': {problem}")
        return found

    def _seen_problems(
        self, name: str, items: Sequence[Item], search: Mapping[str, Mapping[str, Sequence[Item]]]
    ) -> list[str]:
        """Whether a side task asks what the search sees."""
        found = []
        for task, split in ((t, s) for t in search if t in self.tasks for s in SPLITS[:-1]):
            alike = self.side_tasks[name].kind == self.tasks[task].kind
            fields = ("prompt", "group") if alike else ("prompt",)  # groups are a kind's own
            if both := shared_item(items, search[task].get(split, []), fields):
                found.append(
                    f"side task '{name}': item '{both[0]}' is item '{both[1]}' of task '{task}' "
                    f"({split}), which the search sees; leave such items out of one of both"
                )
        return found

    def _to_be_made(self) -> list[str]:
        """Names of the experts that are missing and have training conversations."""
        return [
            name
            for name in self.training
            if name in self.experts
            and not is_tiny(self.experts[name])
            and not Path(self.experts[name]).expanduser().is_dir()
        ]

    def _training_problems(self) -> list[str]:
        found = [
            f"training: '{name}' is no expert{nearest(name, self.experts)}"
            for name in self.training
            if name not in self.experts
        ]
        data = {
            name: source_problem(self.training[name].data, "data") for name in self._to_be_made()
        }
        return found + [
            f"training, '{name}': {problem}" for name, problem in data.items() if problem
        ]

    def make_experts(self, progress: Progress) -> dict[str, Path]:
        """Trains the experts whose directories are missing; see :class:`TrainingConfig`.

        Raises:
            ConfigError: The settings are wrong, the extra "train" is not installed, or training
                conversations ask what models are scored on.
            RunError: The training of a model failed.
        """
        from qdmerge_llm.training import train_lora

        if not self.training:
            raise ConfigError("give `training`, with conversations for each expert to be made")
        problems = self._training_problems()
        problems += [f"task '{k}': {line}" for k, t in self.tasks.items() for line in t.problems()]
        problems += [
            f"side task '{k}': {line}" for k, t in self.side_tasks.items() for line in t.problems()
        ]
        if problem := source_problem(self.base, "base"):
            problems.append(f"base: {problem}")
        elif not problems:
            there = {k: v for k, v in self.experts.items() if k in self.training and is_here(v)}
            base_here = Base(self.base) if is_local(self.base) else None
            problems += self._stale({k: Path(v).expanduser() for k, v in there.items()}, base_here)
        if problems:
            raise ConfigError("\n".join(problems))
        self.prepare(progress)
        asked, tiny = {**self.tasks, **self.side_tasks}, self.tiny_recipe()
        leaks = self._leaks({name: task.items(tiny) for name, task in asked.items()})
        if leaks:
            raise ConfigError("\n".join(leaks))
        base, made = resolve(self.base, tiny), {}
        for name in self._to_be_made():
            data = Path(self.training[name].data).expanduser()
            out = Path(self.experts[name]).expanduser()
            made[name] = train_lora(base, data, out, self.training[name].lora, progress)
        return made

    def _leaks(self, items: Mapping[str, Mapping[str, Sequence[Item]]]) -> list[str]:
        """Training conversations that are here and ask what models are scored on.

        Args:
            items: Task to split to items.
        """
        asked = {**self.side_tasks, **self.tasks}
        questions = {
            f"'{item['id']}' of '{name}' ({split})": asked[name].kind_class().bare_question(item)
            for name, splits in items.items()
            for split, chosen in splits.items()
            for item in chosen
        }
        found = []
        for name, training in self.training.items():
            path = Path(training.data).expanduser()
            try:
                leaks = leaked_items(path, questions) if path.is_file() else []
            except ConfigError as error:
                found.append(f"training, '{name}': {error}")
                continue
            if leaks:
                found.append(
                    f"{path}: the training conversations of '{name}' ask what models are scored "
                    f"on: {len(leaks)} items, such as {leaks[0]}. Remove them from one of both"
                )
        return found

    def prepare(self, progress: Progress) -> None:
        """Builds what is referred to of the tiny zoo and not built yet."""
        sources = self._tiny_sources()
        if sources:
            from qdmerge_zoo.llm import multitask_model, zoo

            zoo(recipe=self.tiny_recipe(), progress=progress)
            if TINY_ALL in sources:
                multitask_model(self.tiny_recipe(), progress=progress)

    def multitask(self) -> LLMConfig | None:
        """The tiny zoo's base fine-tuned on all tasks of the zoo, in place of its experts.

        Returns:
            The settings; None where base, experts and data are not all from the tiny zoo.
        """
        data = [source for task in self.tasks.values() for source in task.files()]
        if not all(map(is_tiny, [self.base, *self.experts.values(), *data])):
            return None
        tasks = {
            name: task.model_copy(update={"expert": None}) for name, task in self.tasks.items()
        }
        experts = {"all": TINY_ALL}
        return self.model_copy(update={"experts": experts, "tasks": tasks, "training": {}})

    def training_cost(self) -> dict[str, float] | None:
        """What it cost to train ``tiny://all``, where that is the only expert and is built."""
        if list(self.experts.values()) != [TINY_ALL]:
            return None
        from qdmerge_zoo.llm import multitask_cost

        return multitask_cost(self.tiny_recipe())

    def build(self, space: SpaceFactory | None = None) -> LLMBackend:
        """Loads the base model and the items; builds the tiny zoo or downloads models when needed.

        Args:
            space: Makes the space from the task vectors; None for the spectral space.
        """
        from qdmerge_llm.backend import LLMBackend

        return LLMBackend.from_config(self, space)
