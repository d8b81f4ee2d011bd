"""Language models as a genome backend: express a solution, let it write, execute what it wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from qdmerge.backend import Evaluation, GenomeBackend, Task
from qdmerge.devices import device_facts, pick_device
from qdmerge.errors import CheckpointError
from qdmerge.spaces import SpectralSpace
from qdmerge_llm.generation import Generator
from qdmerge_llm.items import Item, content_hash
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.sources import resolve
from qdmerge_llm.tasks import KINDS, TaskKind

if TYPE_CHECKING:
    from qdmerge.backend import SpaceFactory
    from qdmerge.spaces import WeightSpace
    from qdmerge_llm.config import LLMConfig


@dataclass(frozen=True)
class LLMTask:
    """A task ready to be evaluated.

    Attributes:
        task: Its name, metric, range and expert.
        kind: What scores a model on items.
        items: Split to its items, in the order of evaluation.
        max_new_tokens: Longest completion, in tokens.
        stop: Strings that end a completion.
    """

    task: Task
    kind: TaskKind
    items: Mapping[str, Sequence[Item]]
    max_new_tokens: int
    stop: tuple[str, ...] = ()


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
        dtype: Number type that the model runs in.
        device: Where the model runs.

    Attributes:
        model: The live model; holds the solution expressed last.
        tokenizer: The base model's tokenizer.
        llm_tasks: The tasks with their items and what scores them.
    """

    def __init__(
        self,
        base: Path,
        space: WeightSpace,
        tasks: Sequence[LLMTask],
        sandbox: Sandbox | None = None,
        batch_size: int = 64,
        dtype: torch.dtype = torch.float32,
        device: str = "auto",
    ) -> None:
        self.space = space
        self.tasks = [task.task for task in tasks]
        self.measures = ()
        self.llm_tasks = list(tasks)
        self._sandbox = sandbox
        self._device = pick_device(device)
        transformers.utils.logging.disable_progress_bar()  # a line for each worker otherwise
        # The name of the argument changed in transformers 4.56.
        key = "dtype" if hasattr(transformers.PretrainedConfig(), "dtype") else "torch_dtype"
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True)
            self.model = transformers.AutoModelForCausalLM.from_pretrained(
                base, local_files_only=True, use_safetensors=True, **{key: dtype}
            )
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot load the model in {base}: {error}") from error
        self.model.to(self._device).eval().requires_grad_(False)
        self._generator = Generator(self.model, self.tokenizer, batch_size)

    @classmethod
    def from_config(cls, config: LLMConfig, space: SpaceFactory | None = None) -> LLMBackend:
        """Builds the backend of a configuration; see :meth:`LLMConfig.build`."""
        from qdmerge.spaces import SpectralSpace, TaskVectors

        sandbox = Sandbox(config.allow_unsandboxed)
        tasks = []
        for name, task in config.tasks.items():
            kind = KINDS.build(task.kind, task.options, {"sandbox": sandbox})
            described = Task(name, kind.metric, (0.0, 1.0), task.expert)
            stop = (*kind.stop, *task.stop)
            tasks.append(LLMTask(described, kind, config.items(task), task.max_new_tokens, stop))
        base = resolve(config.base, config.tiny_seed)
        experts = {k: resolve(source, config.tiny_seed) for k, source in config.experts.items()}
        vectors = TaskVectors(base, experts)
        return cls(
            base,
            space(vectors) if space else SpectralSpace(vectors),
            tasks,
            sandbox,
            config.batch_size,
            getattr(torch, config.dtype),
            config.device,
        )

    def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
        """Scores models on all tasks.

        Args:
            xs: ``(n, dim)`` solutions of :attr:`space`.
            split: "validation", "selection" or "test".

        Returns:
            ``scores`` ``(n, K)``, the mean over each task's items; ``items``, per model and task
            the ``(n_items,)`` scores of its items.
        """
        records = [self._evaluate_one(x, split) for x in np.atleast_2d(xs)]
        scores = [[record[task.name].mean() for task in self.tasks] for record in records]
        return Evaluation(np.array(scores).reshape(len(records), len(self.tasks)), None, records)

    def _evaluate_one(self, x: np.ndarray, split: str) -> dict[str, np.ndarray]:
        self.space.express(x, self.model)
        record = {}
        for task in self.llm_tasks:

            def generate(prompts: Sequence[str], task: LLMTask = task) -> list[str]:
                return self._generator(prompts, task.max_new_tokens, task.stop)

            record[task.task.name] = task.kind.evaluate(task.items[split], generate)
        return record

    def export(self, x: np.ndarray, path: str | Path) -> Path:
        """Writes the model of ``x`` as a directory that plain transformers loads."""
        return self.space.export(x, Path(path))

    def _energy(self) -> dict[str, float]:
        """Share of each task vector that a spectral space's components hold; {} for others."""
        if not isinstance(self.space, SpectralSpace):
            return {}
        return {name: round(self.space.energy(name), 4) for name in self.space.experts}

    def facts(self) -> dict[str, Any]:
        """Device, number type, sandbox, versions; content hashes of weights and items."""
        return {
            **device_facts(self._device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "versions": {"transformers": transformers.__version__},
            "parameters": self.model.num_parameters(),
            **(self._sandbox.facts() if self._sandbox else {}),
            "energy": self._energy(),
            "weights": self.space.vectors.fingerprint,
            "items": {
                task.task.name: {
                    split: {"count": len(items), "sha256": content_hash(items)}
                    for split, items in task.items.items()
                }
                for task in self.llm_tasks
            },
        }
