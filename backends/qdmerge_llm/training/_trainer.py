"""The Trainer of transformers with our batches, our loss and our clock."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerState,
    TrainingArguments,
)

from qdmerge.backend import Progress
from qdmerge_llm.generation import cache_argument, cache_of
from qdmerge_llm.training._config import LoRAConfig
from qdmerge_llm.training._data import NOT_LEARNED, Example, collate

CLOCK = "seconds.json"
"""The time that a training has taken so far, beside its checkpoints."""


class LoRATrainer(Trainer):
    """Trains on batches in the order given, on the learned tokens only."""

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Sequence[Sequence[Example]],
        pad: int,
        settings: LoRAConfig,
        folder: Path,
    ) -> None:
        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=1,  # one batch of ours
            num_train_epochs=1,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=round(settings.warmup * len(batches)),
            max_grad_norm=settings.clip,
            weight_decay=0.0,
            seed=settings.seed,
            logging_steps=1,
            save_strategy="no",  # by the clock
            save_total_limit=1,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=batches,
            data_collator=lambda one: collate(one[0], pad),
        )
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, *_: Any) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        """Return mean cross entropy of the learned tokens. The common prefix passes the model once,
        with gradients; only positions before a learned token pass the output layer.
        """
        labels, prefix = inputs.pop("labels")[:, 1:], inputs.pop("prefix")
        keep = (labels != NOT_LEARNED).any(dim=0).nonzero().flatten()
        cache = None
        if prefix.shape[1]:
            cache = cache_of(model(input_ids=prefix, use_cache=True, logits_to_keep=1))
            cache.batch_repeat_interleave(len(labels))
        inputs[cache_argument(model)] = cache
        logits = model(**inputs, use_cache=cache is not None, logits_to_keep=keep).logits
        return torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), labels[:, keep].flatten(), ignore_index=NOT_LEARNED
        )


class Watch(TrainerCallback):
    """Reports progress, and saves a checkpoint in ``folder`` every so many seconds."""

    def __init__(self, folder: Path, name: str, progress: Progress, every: float) -> None:
        self._clock = folder / CLOCK
        self._name = name
        self._progress = progress
        self._every = every
        self._before = json.loads(self._clock.read_text()) if self._clock.is_file() else 0.0
        self._start = self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of this training, including those before the checkpoint it resumed from."""
        return self._before + time.monotonic() - self._start

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report where the training starts or resumes."""
        self._progress(self._name, state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report the step, and ask for a checkpoint when it is time."""
        self._progress(self._name, state.global_step, state.max_steps)
        if time.monotonic() - self._saved >= self._every:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the time, after a checkpoint is written."""
        self._clock.write_text(json.dumps(self.seconds))
        self._saved = time.monotonic()


def last_checkpoint(folder: Path) -> Path | None:
    """Return the last whole checkpoint in ``folder``. A torn one lacks its state, which is written
    last; that of another version may be unreadable.
    """

    def step(path: Path) -> int:
        return int(path.name.removeprefix("checkpoint-"))

    for path in sorted(folder.glob("checkpoint-*"), key=step, reverse=True):
        try:
            TrainerState.load_from_json(str(path / "trainer_state.json"))
        except (OSError, ValueError, TypeError):
            continue
        return path
    return None
