"""Settings of the language model backend; importing them loads neither torch nor transformers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from qdmerge.backend import SIDE, SPLITS, BackendConfig, Progress, Task
from qdmerge.checkpoints import checkpoint_problems, is_local, missing, scheme_name
from qdmerge.errors import ConfigError, QDMergeError, nearest
from qdmerge_llm import sandbox
from qdmerge_llm.items import Item, leaked_items, shared_item
from qdmerge_llm.models import Base, made_otherwise, template_problem
from qdmerge_llm.sources import BACKEND, is_gguf, is_here, resolve, source_problem
from qdmerge_llm.task_settings import SideTaskConfig, TaskConfig
from qdmerge_llm.tasks import KINDS, LMEvalTask
from qdmerge_llm.training import TrainingConfig
from qdmerge_llm.vocabulary import tell_other_templates, with_vocabulary

if TYPE_CHECKING:
    from qdmerge.backend import SpaceFactory
    from qdmerge_llm.backend import LLMBackend, LLMTask


class GuideConfig(BaseModel):
    """How a guided search learns what the experts say; see ``guide`` of a task for its prompts.

    Attributes:
        checkpointing: Compute layers again in the backward pass: less memory, more time.
        top_k: Tokens whose probabilities are kept at each place of an answer, the most likely
            ones; the others count together.
    """

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    checkpointing: bool = False
    top_k: PositiveInt = 64


class LLMConfig(BackendConfig):
    """Language models that are merged, and the tasks they are scored on.

    Attributes:
        base: Directory, Hub id, GGUF file, or part of a scheme (``tiny://base``).
        experts: Expert name to directory (of a whole model, or of a LoRA adapter), Hub id, or
            part of a scheme; fine-tuned from ``base``.
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
        guide: How a guided search learns what the experts say.
        config_differences: Entries of ``config.json`` that experts may have otherwise than the
            base, although the forward pass uses them.
        vocabulary: "base", and experts must have its tokens; or "union": tokens that experts added
            are added to the base and to each other, in copies that are kept in the cache.
        allow_unsandboxed: Execute answers without a sandbox where none works.
    """

    name: ClassVar[str] = BACKEND
    summary: ClassVar[str] = "causal language models; tasks that execute what the model writes"

    renamed: ClassVar[Mapping[str, str]] = {"reported": "side_tasks"}
    guided: ClassVar[bool] = True

    base: str
    experts: dict[str, str] = Field(min_length=1)
    tasks: dict[str, TaskConfig] = Field(min_length=1)
    side_tasks: dict[str, SideTaskConfig] = Field(default_factory=dict)
    chat_template: str | None = None
    batch_size: PositiveInt = 64
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    training: dict[str, TrainingConfig] = Field(default_factory=dict)
    guide: GuideConfig = GuideConfig()
    config_differences: tuple[str, ...] = ()
    vocabulary: Literal["base", "union"] = "base"
    allow_unsandboxed: bool = False

    def problems(self) -> list[str]:
        """Return all mistakes that show without loading weights, building or downloading."""
        found = self._model_problems() + self._training_problems()
        items: dict[str, dict[str, list[Item]]] = {}
        for name, task in self.tasks.items():
            lines, items[name] = task.examined(self.scheme)
            lines = task.expert_problems(self.experts) + lines
            found += [f"task '{name}': {line}" for line in lines]
        for name, side in self.side_tasks.items():
            lines, more = side.examined(self.scheme)
            found += [f"side task '{name}': {line}" for line in lines]
            found += self._seen_problems(name, more.get(SIDE, []), items)
            items.setdefault(name, more)
        found += self._leaks(items) + self._guide_problems(items)
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
        """Return names of the tasks."""
        return list(self.tasks)

    def model_sources(self) -> dict[str, str]:
        """Return where base and experts come from, by name, the base first."""
        return {"base": self.base, **self.experts}

    def data_sources(self) -> list[str]:
        """Return the data files of all tasks."""
        asked = [*self.tasks.values(), *self.side_tasks.values()]
        guides = [task.guide.data for task in self.tasks.values() if task.guide.data]
        return [source for task in asked for source in task.files()] + guides

    def _model_problems(self) -> list[str]:
        wrong = {name: source_problem(v, "expert", self.scheme) for name, v in self.experts.items()}
        # Its place, not a model on the Hub, whatever it looks like.
        wrong |= {name: missing("directory", self.experts[name]) for name in self._to_be_made()}
        lines = {f"expert '{name}'": problem for name, problem in wrong.items()}
        lines = {"base": source_problem(self.base, "base", self.scheme), **lines}
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
                found += (
                    base.problems(experts, self.config_differences, self.vocabulary == "union")
                    if base
                    else checkpoint_problems(None, experts)
                )
        except QDMergeError as error:
            base = None
            found.append(f"base: {error}")
        if base and base.folder and self.chat_template is None and not found:
            tell_other_templates(base.folder, experts)
        asked = {**self.tasks, **self.side_tasks}
        chats = [f"'{name}'" for name, task in asked.items() if task.asks_in_conversations]
        problem = template_problem(self.chat_template, base, chats)
        return found + ([problem] if problem else []) + self._stale(experts, base)

    def _stale(self, experts: Mapping[str, Path], base: Base | None) -> list[str]:
        """Return the adapters that differ from what the current settings would produce."""
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
        """Return whether a side task asks what the search sees."""
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

    def _guide_problems(self, items: Mapping[str, Mapping[str, Sequence[Item]]]) -> list[str]:
        """Return what is wrong with the files of prompts for the guide."""
        found = []
        for name, task in self.tasks.items():
            source = task.guide.data
            problem = source and source_problem(source, "data", self.scheme)
            if source and not problem and scheme_name(source) is None and name in items:
                try:
                    self._guide_items(name, items)
                except QDMergeError as error:
                    problem = str(error)
            found += [f"task '{name}', guide: {problem}"] if problem else []
        return found

    def _guide_items(
        self, name: str, items: Mapping[str, Mapping[str, Sequence[Item]]]
    ) -> tuple[str, list[Item]]:
        """Return where a task's prompts for the guide come from, and the prompts.

        Args:
            name: The task.
            items: The items of each split of each task.

        Raises:
            ConfigError: The prompts cannot be used, or models are scored on one of them.
        """
        source, prompts = self.tasks[name].guide_items(self.scheme)
        kind = self.tasks[name].kind
        for task, splits in items.items():
            alike = {**self.side_tasks, **self.tasks}[task].kind == kind
            fields = ("prompt", "group") if alike else ("prompt",)  # groups are a kind's own
            for split, scored in splits.items():
                both = shared_item(map(_loosely, prompts), map(_loosely, scored), fields)
                if both and split != "validation":
                    raise ConfigError(
                        f"{source}: item '{both[0]}' is item '{both[1]}' of task '{task}' "
                        f"({split}), which models are scored on; remove it"
                    )
        return source, prompts

    def _to_be_made(self) -> list[str]:
        """Return names of the experts that are missing and have training conversations."""
        return [
            name
            for name in self.training
            if name in self.experts
            and scheme_name(self.experts[name]) is None
            and not os.path.isdir(Path(self.experts[name]).expanduser())
        ]

    def _training_problems(self) -> list[str]:
        found = [
            f"training: '{name}' is no expert{nearest(name, self.experts)}"
            for name in self.training
            if name not in self.experts
        ]
        data = {
            name: source_problem(self.training[name].data, "data", self.scheme)
            for name in self._to_be_made()
        }
        return found + [
            f"training, '{name}': {problem}" for name, problem in data.items() if problem
        ]

    def make_experts(self, progress: Progress) -> dict[str, Path]:
        """Train the experts whose directories are missing; see :class:`TrainingConfig`.

        Raises:
            ConfigError: The settings are wrong, the extra "train" is not installed, or training
                conversations ask what models are scored on.
            RunError: The training of a model failed.
        """
        from qdmerge_llm.training import train_lora

        if not self.training:
            raise ConfigError("give `training`, with conversations for each expert to be made")
        problems = self._training_problems()
        for kind, asked in (("task", self.tasks), ("side task", self.side_tasks)):
            for name, task in asked.items():
                problems += [f"{kind} '{name}': {line}" for line in task.problems(self.scheme)]
        if problem := source_problem(self.base, "base", self.scheme):
            problems.append(f"base: {problem}")
        elif not problems:
            there = {k: v for k, v in self.experts.items() if k in self.training and is_here(v)}
            base_here = Base(self.base) if is_local(self.base) else None
            problems += self._stale({k: Path(v).expanduser() for k, v in there.items()}, base_here)
        if problems:
            raise ConfigError("\n".join(problems))
        self.prepare(progress)
        every = {**self.tasks, **self.side_tasks}
        leaks = self._leaks({name: task.items(self.scheme) for name, task in every.items()})
        if leaks:
            raise ConfigError("\n".join(leaks))
        base, made = resolve(self.base, self.scheme), {}
        for name in self._to_be_made():
            data = Path(self.training[name].data).expanduser()
            out = Path(self.experts[name]).expanduser()
            made[name] = train_lora(base, data, out, self.training[name].lora, progress)
        return made

    def _leaks(self, items: Mapping[str, Mapping[str, Sequence[Item]]]) -> list[str]:
        """Return the local training conversations that ask what models are scored on."""
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
                leaks = leaked_items(path, questions) if os.path.isfile(path) else []
            except ConfigError as error:
                found.append(f"training, '{name}': {error}")
                continue
            if leaks:
                found.append(
                    f"{path}: the training conversations of '{name}' ask what models are scored "
                    f"on: {len(leaks)} items, such as {leaks[0]}. Remove them from one of both"
                )
        return found

    def multitask(self) -> LLMConfig | None:
        """Return the settings with the scheme's model of all tasks in place of the experts.

        Returns:
            The settings; None where base, experts and data do not all come from a scheme with
            such a model.
        """
        data = [source for task in self.tasks.values() for source in task.files()]
        source = self.all_tasks_source([*self.model_sources().values(), *data])
        if source is None:
            return None
        tasks = {
            name: task.model_copy(update={"expert": None}) for name, task in self.tasks.items()
        }
        experts = {"all": source}
        return self.model_copy(update={"experts": experts, "tasks": tasks, "training": {}})

    def build(self, space: SpaceFactory | None = None) -> LLMBackend:
        """Load the base model and the items; make or download them when needed.

        Args:
            space: Makes the space from the task vectors; None for the spectral space.
        """
        from qdmerge.checkpoints import TaskVectors
        from qdmerge.spaces import SpectralSpace
        from qdmerge_llm.backend import LLMBackend

        box = sandbox.Sandbox(self.allow_unsandboxed)
        base = resolve(self.base, self.scheme)
        experts = {name: resolve(source, self.scheme) for name, source in self.experts.items()}
        base, experts = with_vocabulary(base, experts, self.vocabulary == "union")
        asked = [*self.tasks.values(), *self.side_tasks.values()]
        lm_eval = any(task.kind_class() is LMEvalTask for task in asked)
        vectors = TaskVectors(base, experts, config_differences=self.config_differences)
        backend = LLMBackend(
            base,
            (space or SpectralSpace)(vectors),
            [self._ready(name, task, box, task.expert) for name, task in self.tasks.items()],
            box,
            self.batch_size,
            self.dtype,
            self.device,
            [self._ready(name, task, box) for name, task in self.side_tasks.items()],
            self.chat_template,
            ["gguf"] * is_gguf(self.base) + ["lm_eval"] * lm_eval,
        )
        scored = {one.task.name: one.items for one in backend.llm_tasks + backend.side_llm_tasks}
        backend.guide_by(
            {name: partial(self._guide_items, name, scored) for name in self.tasks},
            {name: task.asking() for name, task in self.tasks.items()},
            **self.guide.model_dump(),
        )
        backend.calibrate(
            {k: partial(task.calibration, schemes=self.scheme) for k, task in self.tasks.items()},
            {name: task.asking() for name, task in self.tasks.items()},
        )
        return backend

    def _ready(
        self,
        name: str,
        task: TaskConfig | SideTaskConfig,
        box: sandbox.Sandbox,
        expert: str | None = None,
    ) -> LLMTask:
        """Return a task that can be evaluated."""
        from qdmerge_llm.backend import LLMTask

        kind = KINDS.build(task.kind, task.options, {"sandbox": box})
        described = Task(name, kind.metric, (0.0, 1.0), expert)
        left_out: dict[str, str] = {}
        tries = kind if kind.leaves_out else None
        items = {} if kind.side_only else task.items(self.scheme, tries, left_out)
        stop = (*kind.stop, *task.stop)
        return LLMTask(described, kind, items, task.max_new_tokens, stop, tuple(left_out))


def _loosely(item: Item) -> Item:
    """Return an item whose prompt is that of others that differ in case and space only."""
    return {**item, "prompt": " ".join(item["prompt"].lower().split())}
