"""What the experts say on unlabeled prompts, and how far the live model is from saying it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_layers import GradientCheckpointingLayer

from qdmerge.checkpoints import Progress, silent
from qdmerge.errors import ConfigError, EvaluationError, UnsupportedError
from qdmerge.spaces import ModuleGuide, computed_again
from qdmerge.storage import built_once, cache_dir, content_digest
from qdmerge_llm.calibration import Answer
from qdmerge_llm.generation import cache_argument, cache_of, layers_of
from qdmerge_llm.items import Item

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from qdmerge.spaces import WeightSpace

VERSION = 1
"""Part of the cache key: raise it whenever the meaning of what is recorded changes."""

_FILE = "answers.safetensors"
_PREFIX = 32  # shorter common beginnings are not worth a pass of their own
_READ = 8  # answers that are read at once to record them


@dataclass(frozen=True)
class Asked:
    """What the expert of a task is asked, and how.

    Args:
        expert: The expert.
        items: Return where the prompts come from ("validation", ...), and the prompts.
        answer: Has the live model answer them.
        settings: What else decides the answers, JSON-able.
    """

    expert: str
    items: Callable[[], tuple[str, Sequence[Item]]]
    answer: Answer
    settings: Any


@dataclass(frozen=True)
class Record:
    """Answers of an expert, and what it expects at each place of them.

    A place is a token of an answer, or the end behind its last one.

    Attributes:
        ids: ``(tokens,)`` int64: prompts with their answers, one after the other.
        lengths: ``(n,)`` int64: tokens of each.
        places: ``(n,)`` int64: places of each.
        likely: ``(places, k)`` int64: the most likely tokens.
        log_p: ``(places, k)`` float32: their log-probabilities.
        log_rest: ``(places,)`` float32: that of all others together.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    places: torch.Tensor
    likely: torch.Tensor
    log_p: torch.Tensor
    log_rest: torch.Tensor

    @cached_property
    def rows(self) -> list[torch.Tensor]:
        """The token ids of each prompt with its answer."""
        return list(self.ids.split(self.lengths.tolist()))

    @cached_property
    def expected(self) -> list[tuple[torch.Tensor, ...]]:
        """For each, the parts of ``likely``, ``log_p`` and ``log_rest``."""
        parts = (self.likely, self.log_p, self.log_rest)
        return list(zip(*(part.split(self.places.tolist()) for part in parts), strict=True))


class LLMGuide(ModuleGuide):
    """A :class:`qdmerge.spaces.Guide`: the live model should say what the task's expert says.

    The expert answers the prompts of its task, greedily as in an evaluation; of a problem in turns,
    each turn is an item of its own. It then reads each prompt with its answer, and the most likely
    next tokens at each place of the answer, the end included, are kept with their probabilities.
    This is recorded once, in the cache. The loss is the Kullback-Leibler divergence of the live
    model from that: its mean over all places of all answers of a batch, so long answers count more.

    Args:
        space: The space.
        module: The live model.
        tasks: Name of a task to what its expert is asked, in the order of the tasks.
        top_k: Most likely tokens that are kept; all others count as one.
        checkpointing: Compute layers again in the backward pass, which saves memory.
        cache: Where records are kept; None for :func:`~qdmerge.storage.cache_dir`.

    Raises:
        UnsupportedError: The architecture has no layers that can be computed again.
    """

    def __init__(
        self,
        space: WeightSpace,
        module: PreTrainedModel,
        tasks: Mapping[str, Asked],
        top_k: int = 64,
        checkpointing: bool = False,
        cache: Path | None = None,
    ) -> None:
        super().__init__(space, module, self.loss, {}, entropy=self.entropy)
        self._tasks = tasks
        self._cache = cache
        self._items: dict[str, tuple[str, Sequence[Item]]] = {}
        self._records: dict[str, Record] = {}
        head = module.get_output_embeddings()
        self._head: torch.nn.Module = head
        self._weight: torch.Tensor = head.weight
        # One token at least is left for the rest.
        self._top_k = min(top_k, head.weight.shape[0] - 1)
        self._layers: list[torch.nn.Module] = []
        if checkpointing:
            layers = (GradientCheckpointingLayer,)
            self._layers = [layer for layer in module.modules() if isinstance(layer, layers)]
            if not self._layers:
                raise UnsupportedError(
                    f"{type(module).__name__} has no layers that can be computed again in the "
                    "backward pass; leave 'guide.checkpointing' out"
                )

    @property
    def sizes(self) -> Mapping[str, int]:
        """See :class:`qdmerge.spaces.Guide`; the experts' answers are recorded if need be."""
        self.prepare()
        return {task: len(self._records[task].lengths) for task in self._tasks}

    def key(self) -> str:
        """See :class:`qdmerge.spaces.Guide`."""
        return content_digest([self._digest(task) for task in self._tasks])[:32]

    def facts(self) -> dict[str, Any]:
        """Return where each task's prompts come from, and their number."""
        found = {task: self._asked(task) for task in self._tasks}
        return {task: {"from": origin, "count": len(i)} for task, (origin, i) in found.items()}

    def prepare(self, progress: Progress = silent) -> None:
        """See :class:`qdmerge.spaces.Guide`.

        Raises:
            ConfigError: A task has no expert, or its prompts cannot be used.
            EvaluationError: An expert answers with nothing, or cannot be run.
        """
        for task, asked in self._tasks.items():
            if asked.expert not in self.space.experts:
                raise ConfigError(
                    f"task '{task}' has no expert to learn from: give its 'expert', one of "
                    f"{', '.join(self.space.experts)}"
                )
        for number, task in enumerate(self._tasks):
            if task not in self._records:
                progress("recording what experts say", number, len(self._tasks))
                self._records[task] = self._recorded(task)
                progress("recording what experts say", number + 1, len(self._tasks))

    def loss(self, task: str, rows: np.ndarray) -> torch.Tensor:
        """Return how far the live model is from what a task's expert says.

        Args:
            task: The task.
            rows: ``(n,)`` numbers of items, which are read as one batch.

        Returns:
            The divergence, float32: a mean over all places of the n answers.
        """
        self.prepare()
        record, device = self._records[task], self._weight.device
        parts = zip(*(record.expected[row] for row in rows.tolist()), strict=True)
        likely, log_p, log_rest = (torch.cat(part).to(device) for part in parts)
        log_q, log_left = _split(self._logits(record, rows.tolist()), likely)
        found = (log_p.exp() * (log_p - log_q)).sum() + (
            log_rest.exp() * (log_rest - log_left)
        ).sum()
        return found / len(likely)

    def entropy(self, task: str, rows: np.ndarray) -> torch.Tensor:
        """Return how uncertain the live model is of the next token, in nats.

        The answers that it reads are the expert's, so this loss, too, needs what the expert said.

        Args:
            task: The task.
            rows: ``(n,)`` numbers of items, which are read as one batch.

        Returns:
            The entropy, float32: a mean over all places of the n answers.
        """
        self.prepare()
        log_q = self._logits(self._records[task], rows.tolist()).log_softmax(1)
        return -(log_q.exp() * log_q).sum(1).mean()

    def _logits(self, record: Record, rows: Sequence[int]) -> torch.Tensor:
        """Return what the live model expects at the places of answers: ``(places, size)``."""
        read = [record.rows[row] for row in rows]
        lengths, places = (each[list(rows)] for each in (record.lengths, record.places))
        shared = self._shared(read, int((lengths - places).min()))
        cache = self._beginning(read[0][None, :shared], len(read)) if shared else {}
        # Padding is behind the answers and so needs no mask: no token looks at what comes after it.
        ids = pad_sequence([row[shared:] for row in read], batch_first=True)
        columns = torch.arange(shared, shared + ids.shape[1])
        behind = (lengths - places)[:, None]
        chosen = (columns < lengths[:, None]) & (columns >= behind)
        with computed_again(self._layers):
            logits: torch.Tensor = self._run(ids, chosen, use_cache=bool(cache), **cache).logits
        return logits.float()

    def _run(self, ids: torch.Tensor, chosen: torch.Tensor, **options: Any) -> Any:
        """Call the live model for its logits at ``chosen`` places alone: bool, as ``ids``."""
        device = self._weight.device

        def choose(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            return (inputs[0][chosen.to(device)],)

        with self._head.register_forward_pre_hook(choose):
            return self.module(input_ids=ids.to(device), **options)

    def _shared(self, rows: Sequence[torch.Tensor], most: int) -> int:
        """Return how many tokens, such as those of a system prompt, are read once for all rows."""
        if len(rows) < 2 or self._layers or not layers_of(self.module, max(map(len, rows))):
            return 0
        heads = torch.stack([row[:most] for row in rows])
        same = int((heads == heads[0]).all(0).long().cumprod(0).sum())
        return same if same >= _PREFIX else 0

    def _beginning(self, ids: torch.Tensor, count: int) -> dict[str, Any]:
        """Return the argument that holds keys and values of a beginning, for ``count`` rows."""
        output = self._run(ids, torch.zeros_like(ids, dtype=torch.bool), use_cache=True)
        cache = cache_of(output)
        cache.batch_repeat_interleave(count)
        return {cache_argument(self.module): cache}

    def _asked(self, task: str) -> tuple[str, Sequence[Item]]:
        if task not in self._items:
            self._items[task] = self._tasks[task].items()
        return self._items[task]

    def _digest(self, task: str) -> str:
        asked, vectors = self._tasks[task], self.space.vectors
        models = [vectors.fingerprint, vectors.companions, asked.expert]
        asks = [self._asked(task)[1], asked.settings, str(self._weight.dtype)]
        return content_digest([models, asks, self._top_k, VERSION], sort_keys=True)[:32]

    def _recorded(self, task: str) -> Record:
        """Return what is in the cache, after recording it there if need be."""
        if self._asked(task)[0] == "validation":
            warnings.warn(
                f"task '{task}': the guide asks its expert the prompts that the search is scored "
                "on (validation), for want of others; name a file of prompts as 'guide: {data: "
                "FILE}' of the task",
                stacklevel=2,
            )

        def build(folder: Path) -> None:
            record = self._record(task)
            try:
                save_file({f.name: getattr(record, f.name) for f in fields(record)}, folder / _FILE)
            except SafetensorError as error:
                raise OSError(str(error)) from error

        root = cache_dir() if self._cache is None else Path(self._cache)
        entry = built_once(root / "guide" / self._digest(task), build, "What experts say")
        return Record(**load_file(entry / _FILE))

    @torch.no_grad()
    def _record(self, task: str) -> Record:
        asked = self._tasks[task]
        origin, items = self._asked(task)
        self.express(self.space.seeds[asked.expert])
        said = [(read, written) for read, written in asked.answer(items) if written]
        if not said:
            raise EvaluationError(
                f"task '{task}': expert '{asked.expert}' answers all {len(items)} prompts of the "
                f"guide ({origin}) with nothing, or they are too long for its context, so there is "
                "nothing to learn from it; give other prompts as 'guide: {data: FILE}' of the task"
            )
        rows = [torch.tensor(read + written) for read, written in said]
        nothing = torch.empty(0)
        record = Record(
            torch.cat(rows),
            torch.tensor([len(row) for row in rows]),
            torch.tensor([len(written) + 1 for _, written in said]),
            *(nothing, nothing, nothing),
        )
        found: list[tuple[torch.Tensor, ...]] = [()] * len(rows)
        # Those that are read together have similar lengths.
        order = record.lengths.argsort(descending=True, stable=True).tolist()
        for start in range(0, len(order), _READ):
            batch = order[start : start + _READ]
            logits = self._logits(record, batch)
            likely = logits.topk(self._top_k).indices
            parts = [likely, *_split(logits, likely)]
            if not all(part.isfinite().all() for part in parts[1:]):
                raise EvaluationError(
                    f"task '{task}': expert '{asked.expert}' gives probabilities that are not "
                    "finite; try 'dtype: float32'"
                )
            sizes = record.places[batch].tolist()
            split = [part.cpu().split(sizes) for part in parts]
            for row, *own in zip(batch, *split, strict=True):
                found[row] = tuple(own)
        return Record(
            record.ids, record.lengths, record.places, *map(torch.cat, zip(*found, strict=True))
        )


def _split(logits: torch.Tensor, likely: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities of ``(n, k)`` tokens, and ``(n,)`` of all others together."""
    whole = logits.logsumexp(1)
    rest = logits.scatter(1, likely, -torch.inf).logsumexp(1)
    return logits.gather(1, likely) - whole[:, None], rest - whole
