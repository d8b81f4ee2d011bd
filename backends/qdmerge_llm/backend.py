"""Language models as a genome backend: express a solution, let it write, execute what it wrote."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import transformers

from qdmerge.backend import SIDE, Evaluation, GenomeBackend, Task
from qdmerge.errors import CheckpointError
from qdmerge.execution import device_facts, pick_device, pick_dtype
from qdmerge.spaces import SpectralCoordinates
from qdmerge_llm.calibration import Answer, ExpertCalibration, Written
from qdmerge_llm.generation import FENCED_BLOCK, Generator
from qdmerge_llm.guide import Asked, LLMGuide
from qdmerge_llm.items import Item, content_hash
from qdmerge_llm.models import read_template
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import Episode, EpisodeTask, Generate, Prompt, TaskKind
from qdmerge_llm.transcripts import write_transcripts

if TYPE_CHECKING:
    from qdmerge.spaces import WeightSpace


@dataclass(frozen=True)
class LLMTask:
    """A task ready to be evaluated.

    Attributes:
        task: Its name, metric, range and expert.
        kind: What scores a model on items.
        items: Split to its items, in the order of evaluation; {} where the kind brings its own.
        max_new_tokens: Longest completion, in tokens.
        stop: Strings that end a completion. Those of the kind stay in it for the kind to see, as
            does a first block of code; any other is cut off, with what follows.
        left_out: Names of the items of its files that cannot be used.
    """

    task: Task
    kind: TaskKind
    items: Mapping[str, Sequence[Item]]
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class LLMBackend(GenomeBackend):
    """Scores merged language models on tasks that execute what they write.

    One model is held in memory; each solution is expressed into its parameters in place. Scores are
    a function of the solution, the split and the machine's arithmetic alone: decoding is greedy.

    Args:
        base: Directory of the base model, in the format of transformers (safetensors).
        space: Space over the task vectors of the experts.
        tasks: The K tasks.
        sandbox: Where answers run; for the facts only.
        batch_size: Prompts decoded together.
        dtype: Name of the number type that the model runs in; "auto" is bfloat16 where the
            processor computes in it, else float32.
        device: Where the model runs.
        side_tasks: Tasks that the search does not see; their items are under ``SIDE``.
        chat_template: Jinja template of conversations, or its file; None for the tokenizer's own.
        packages: Further packages that the models or tasks need; the facts tell their versions.

    Attributes:
        model: The live model; holds the solution expressed last.
        tokenizer: The base model's tokenizer.
        llm_tasks: The tasks with their items and what scores them.
        side_llm_tasks: The same of the side tasks.
    """

    guide: LLMGuide | None = None

    def __init__(
        self,
        base: Path,
        space: WeightSpace,
        tasks: Sequence[LLMTask],
        sandbox: Sandbox | None = None,
        batch_size: int = 64,
        dtype: str = "float32",
        device: str = "auto",
        side_tasks: Sequence[LLMTask] = (),
        chat_template: str | None = None,
        packages: Sequence[str] = (),
    ) -> None:
        self.space = space
        self.tasks = [task.task for task in tasks]
        self.measures = ()
        self.side_tasks = [task.task for task in side_tasks]
        self.llm_tasks = list(tasks)
        self.side_llm_tasks = list(side_tasks)
        self._sandbox = sandbox
        self._device = pick_device(device)
        transformers.utils.logging.disable_progress_bar()  # a line for each worker otherwise
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True)
            self.model = transformers.AutoModelForCausalLM.from_pretrained(
                base,
                local_files_only=True,
                use_safetensors=True,
                dtype=pick_dtype(dtype, self._device),
            )
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot load the model in {base}: {error}") from error
        self.model.to(self._device).eval().requires_grad_(False)
        template = read_template(chat_template) if chat_template else None
        self._generator = Generator(self.model, self.tokenizer, batch_size, template)
        self._template = template or self.tokenizer.chat_template
        self._packages = packages
        self._warned: set[str] = set()  # tasks whose prompts were too long

    def calibrate(
        self, items: Mapping[str, Callable[[int], Sequence[Item]]], settings: Mapping[str, Any]
    ) -> None:
        """Let the space watch the experts answer items of no split.

        Args:
            items: Name of a task to a function that returns at most so many items of it.
            settings: Name of a task to its settings, JSON-able.
        """

        def answer(task: LLMTask) -> Answer:
            return lambda chosen: self.answered(task, chosen)

        experts: dict[str, dict[str, Answer]] = {}
        for one in self.llm_tasks:
            expert = one.task.expert or one.task.name
            experts.setdefault(expert, {})[one.task.name] = answer(one)

        def facts() -> list[Any]:
            found = self.facts()
            return [found[part] for part in ("dtype", "prompts", "chat_template")]

        self.space.calibrate(ExpertCalibration(self.model, experts, items, settings, facts))

    def guide_by(
        self,
        items: Mapping[str, Callable[[], tuple[str, Sequence[Item]]]],
        settings: Mapping[str, Any],
        **options: Any,
    ) -> None:
        """Let searches follow what the experts say on unlabeled prompts.

        Args:
            items: Name of a task to a function that returns where its prompts come from, and them.
            settings: Name of a task to its settings, JSON-able.
            options: Further arguments of :class:`LLMGuide`.
        """
        asked = {
            one.task.name: Asked(
                one.task.expert or one.task.name,
                items[one.task.name],
                partial(self.answered, one),
                [settings[one.task.name], getattr(one.kind, "system", ""), self._template],
            )
            for one in self.llm_tasks
        }
        self.guide = LLMGuide(self.space, self.model, asked, **options)

    def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
        """Score models on all tasks.

        Args:
            xs: ``(n, dim)`` solutions of :attr:`space`.
            split: "validation", "selection" or "test"; or ``SIDE`` for :attr:`side_tasks`.

        Returns:
            ``scores`` ``(n, K)``, the mean over each task's items; ``items``, per model and task
            the ``(n_items,)`` scores of its items.
        """
        tasks = self.side_llm_tasks if split == SIDE else self.llm_tasks
        records = [self._evaluate_one(x, tasks, split) for x in np.atleast_2d(xs)]
        scores = [[record[task.task.name].mean() for task in tasks] for record in records]
        return Evaluation(np.array(scores).reshape(len(records), len(tasks)), None, records)

    def _evaluate_one(
        self, x: np.ndarray, tasks: Sequence[LLMTask], split: str
    ) -> dict[str, np.ndarray]:
        self.space.express(x, self.model)
        found: dict[str, np.ndarray] = {}
        for task in tasks:
            name = task.task.name
            for also, scores in self._score(task, split).items():
                found[f"{name} ({also})" if also else name] = scores
        return found

    def _score(self, task: LLMTask, split: str) -> dict[str, np.ndarray]:
        """Return the scores of the live model on a task's items, its further ones by name."""
        if task.kind.side_only:
            return {"": task.kind.evaluate_model(self.model, self.tokenizer)}
        before = self._generator.too_long
        scores = task.kind.evaluate_all(task.items[split], self._completer(task))
        self._warn_of_length(task, self._generator.too_long - before)
        return scores

    def answered(self, task: LLMTask, items: Sequence[Item]) -> list[Written]:
        """Return what the live model reads and writes on items of a task; labels are not used.

        Returns:
            Token ids of every prompt, and of its completion without the end-of-sequence token; of
            a problem in turns there is one of each for each turn.
        """
        said: list[Written] = []
        before = self._generator.too_long
        task.kind.ask(items, self._completer(task, said))
        self._warn_of_length(task, self._generator.too_long - before)
        return said

    def _completer(self, task: LLMTask, said: list[Written] | None = None) -> Generate:
        """Return the live model as a function from prompts to completions of a task; ``said``
        receives their tokens.
        """
        kept = (*task.kind.stop, FENCED_BLOCK)
        cut = [mark for mark in task.stop if mark not in kept]

        def complete(prompts: Sequence[Prompt]) -> list[str]:
            written = self._generator.write(prompts, task.max_new_tokens, task.stop)
            if said is not None:
                said.extend(written)
            texts = [self._generator.text(tokens) for _, tokens in written]
            return [
                text[: min((text.index(m) for m in cut if m in text), default=None)]
                for text in texts
            ]

        return complete

    def _warn_of_length(self, task: LLMTask, count: int) -> None:
        """Warn once per task of prompts that the model had no room to answer."""
        name = task.task.name
        if count and name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"task '{name}': {count} prompts and {task.max_new_tokens} new tokens do not fit "
                f"into the model's context of {self.model.config.max_position_embeddings} tokens; "
                "they were answered with nothing. Lower max_new_tokens, or leave such items out",
                stacklevel=2,
            )

    def export(self, x: np.ndarray, path: str | Path) -> Path:
        """Write the model of ``x`` as a directory that plain transformers loads."""
        return self.space.export(x, Path(path))

    def export_adapter(self, x: np.ndarray, path: str | Path) -> Path:
        """Write the model of ``x`` as a LoRA adapter on the base, which plain peft loads."""
        return self.space.export_adapter(x, Path(path))

    def illustrate(self, models: Mapping[str, np.ndarray], folder: Path) -> list[Path]:
        """Write what models say about a few test items: a page for each task with a chat.

        Args:
            models: Name to ``(dim,)`` solution; of the experts, a page shows its task's own.
            folder: Where the pages go.

        Returns:
            Paths of the pages.
        """
        pages = []
        for task in self.llm_tasks:
            if _in_conversations(task.kind):
                name, own = task.task.name, f"expert:{task.task.expert or task.task.name}"
                shown = {k: x for k, x in models.items() if not k.startswith("expert:") or k == own}
                page = folder / f"transcripts-{name}.md"
                play = partial(self._play, task)
                pages.append(write_transcripts(page, name, task.items["test"], shown, play))
        return pages

    def _play(self, task: LLMTask, x: np.ndarray, items: Sequence[Item]) -> list[Episode]:
        assert isinstance(task.kind, EpisodeTask)
        self.space.express(x, self.model)
        return task.kind.play(items, self._completer(task))

    def _energy(self) -> dict[str, float]:
        """Return the share of each task vector in a spectral space's components; {} for others."""
        if not isinstance(self.space, SpectralCoordinates):
            return {}
        return {name: round(self.space.energy(name), 4) for name in self.space.experts}

    def facts(self) -> dict[str, Any]:
        """Return device, number type, sandbox, versions, and hashes of weights and items."""
        return {
            **device_facts(self._device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "versions": {name: version(name) for name in ("transformers", *self._packages)},
            "parameters": self.model.num_parameters(),
            **(self._sandbox.facts() if self._sandbox else {}),
            "energy": self._energy(),
            "checkpoint_dtypes": self.space.vectors.dtypes,
            "prompts": {
                task.task.name: task.kind.system
                for task in [*self.llm_tasks, *self.side_llm_tasks]
                if _in_conversations(task.kind)
            },
            "chat_template": content_hash(self._template),
            **({"guide": self.guide.facts()} if self.guide else {}),
            **({"left_out": left_out} if (left_out := self._left_out()) else {}),
            "weights": self.space.vectors.fingerprint,
            "items": {
                task.task.name: {
                    split: {
                        "count": len(items),
                        "sha256": content_hash(items),
                        **self._asked(task.kind, items),
                    }
                    for split, items in (task.items or {SIDE: task.kind.own_items()}).items()
                }
                for task in [*self.llm_tasks, *self.side_llm_tasks]
            },
        }

    def _left_out(self) -> dict[str, list[str]]:
        """Return the items that cannot be used, by task."""
        tasks = [*self.llm_tasks, *self.side_llm_tasks]
        return {task.task.name: list(task.left_out) for task in tasks if task.left_out}

    def _asked(self, kind: TaskKind, items: Sequence[Item]) -> dict[str, str]:
        """Return a hash of how conversations begin: system prompt, questions, and chat template."""
        if not _in_conversations(kind):
            return {}
        openings = [kind.opening(kind.question(item)) for item in items]
        return {"asked": content_hash([self._template, openings])}


def _in_conversations(kind: TaskKind) -> TypeGuard[EpisodeTask]:
    """Return whether a kind plays episodes that are conversations."""
    return isinstance(kind, EpisodeTask) and kind.chat
