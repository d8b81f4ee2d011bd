"""The training of one model, step by step."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qdmerge.errors import ConfigError, RunError, nearest
from qdmerge.execution import Report
from qdmerge_segmentation.data import ImageSet
from qdmerge_segmentation.metrics import METRICS
from qdmerge_segmentation.models import Segmenter, foreground, predict
from qdmerge_segmentation.training._files import Position, restore_state, save_state
from qdmerge_segmentation.training._objective import (
    Mix,
    generator,
    segmentation_loss,
    truth_of,
    turned,
)
from qdmerge_segmentation.training._plan import Model, Plan, StageConfig
from qdmerge_segmentation.training._record import TRAINED_ON

REPORT_SECONDS = 2.0
"""Least time between two reports."""
SAVE_SECONDS = 30.0
"""Most work that an interruption costs."""
_NORM = 1.0
"""Gradients of a greater norm are scaled down to it."""


class Training:
    """The training of one model: ``segmenter`` holds the weights to start from, ``images`` each
    task's "train" and "validation"; the state lies in ``folder``.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        segmenter: Segmenter,
        images: Mapping[str, Mapping[str, ImageSet]],
        folder: Path,
    ) -> None:
        self.model = model
        self.plan = plan
        self.segmenter = segmenter
        self.images = images
        self.folder = folder
        self.device = next(segmenter.module.parameters()).device
        sizes = {task: len(splits["train"]) for task, splits in images.items()}
        stage, seed = model.stage, plan.training.seed
        self._mix = Mix(model.own, model.others, sizes, stage.replay, seed, model.name)
        chosen = choose_parameters(segmenter.module, stage.only)
        self._optimizer = torch.optim.AdamW(chosen, lr=stage.rate, weight_decay=stage.weight_decay)

    def run(self, report: Report) -> dict[str, Any]:
        """Train to the end, from the last saved state; return the history for the record."""
        module, steps = self.segmenter.module, self.model.stage.steps
        position = restore_state(self.folder, module, self._optimizer)
        report({"name": self.model.name, "done": position.step})
        began = time.perf_counter() - position.seconds
        reported = saved = position.seconds
        if position.step == 0:
            self._mark(position)
        while position.step < steps:
            position.losses.append(self.step(position.step))
            position.step += 1
            last = position.step == steps
            due = last or position.step % self.plan.training.validate_every == 0
            if due:
                self._mark(position)
            position.seconds = time.perf_counter() - began
            if not last and (due or position.seconds - saved > SAVE_SECONDS):
                save_state(self.folder, module, self._optimizer, position)
                saved = position.seconds
            if due or position.seconds - reported > REPORT_SECONDS:
                report({"name": self.model.name, "done": position.step})
                reported = position.seconds
        return self._history(position)

    def _history(self, position: Position) -> dict[str, Any]:
        seen = [
            image
            for task, splits in self.images.items()
            if task in self.model.own or self.model.stage.replay
            for image in splits["train"].hashes
        ]
        return {
            **self.plan.settings_of(self.model),
            "images": {
                task: {split: len(images) for split, images in splits.items()}
                for task, splits in self.images.items()
            },
            TRAINED_ON: " ".join(seen),
            "device": self.device.type,
            "seconds": round(position.seconds, 1),
            "curve": position.curve,
        }

    def _mark(self, position: Position) -> None:
        """Add a point to the curve: the mean loss since the last point, and the scores."""
        loss = round(float(np.mean(position.losses)), 6) if position.losses else None
        point = {"step": position.step, "loss": loss, "validation": self.validate()}
        position.curve.append(point)
        position.losses.clear()

    def step(self, step: int) -> float:
        """Take one optimizer step and return the loss; RunError if it is not finite. Seed, name and
        step decide every draw.
        """
        stage, training = self.model.stage, self.plan.training
        batch = self._mix.batch(step, stage.batch_size)
        rng = generator(training.seed, self.model.name, "step", step)
        torch.manual_seed(int(rng.integers(2**63)))  # dropout draws from the global generator
        symmetries = rng.integers(8, size=len(batch)) * training.augment
        train_mode(self.segmenter.module)
        loss = self._loss(batch, symmetries.tolist())
        value = loss.item()
        if not math.isfinite(value):
            which = "base" if self.model.name == "base" else "experts"
            raise RunError(
                f"Training {self.model.name} failed: the loss is {value} at step {step + 1}; a "
                f"smaller training.{which}.rate than {stage.rate:g} may help"
            )
        loss.backward()
        chosen = self._optimizer.param_groups[0]
        torch.nn.utils.clip_grad_norm_(chosen["params"], _NORM)
        chosen["lr"] = stage.rate * rate_at(step, stage)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return value

    def _loss(self, batch: Sequence[tuple[str, int]], symmetries: Sequence[int]) -> torch.Tensor:
        """Return the mean loss of a batch: task and index of each image, and how it is turned."""
        images, masks = [], []
        for (task, index), symmetry in zip(batch, symmetries, strict=True):
            # Prompts are made from masks, so image and mask are turned first.
            train = self.images[task]["train"]
            images.append(turned(train.images[index], symmetry))
            masks.append(turned(train.masks[index], symmetry))
        inputs = self.segmenter.inputs(images, masks)
        height, width = inputs["pixel_values"].shape[-2:]
        truth = truth_of(masks, (height, width)).to(self.device)
        maps = self.segmenter.maps({key: one.to(self.device) for key, one in inputs.items()})
        rows: dict[tuple[int, ...] | None, list[int]] = {}
        for row, (task, _) in enumerate(batch):
            rows.setdefault(self.plan.tasks[task].labels, []).append(row)
        losses = [
            segmentation_loss(foreground(maps[some], labels).float(), truth[some]).sum()
            for labels, some in rows.items()
        ]
        return torch.stack(losses).sum() / len(batch)

    def validate(self) -> dict[str, float]:
        """Return the mean score of each task on its validation images."""
        self.segmenter.module.eval()
        return {task: round(self._score(task), 6) for task in self.plan.tasks}

    def _score(self, task: str) -> float:
        settings, images = self.plan.tasks[task], self.images[task]["validation"]
        score, size, scores = METRICS[settings.metric], self.plan.batch_size, []
        for first in range(0, len(images), size):
            masks = images.masks[first : first + size]
            inputs = self.segmenter.inputs(images.images[first : first + size], masks)
            sizes = [mask.shape for mask in masks]
            found = predict(self.segmenter, inputs, sizes, size, labels=settings.labels)
            scores += [score(*pair) for pair in zip(found, masks, strict=True)]
        return float(np.mean(scores))


def rate_at(step: int, stage: StageConfig) -> float:
    """Return the learning rate of a step, counted from 0, as a fraction of its peak."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    return (stage.steps - step) / max(1, stage.steps - stage.warmup)


def check_prefixes(module: torch.nn.Module, only: Sequence[str], where: str) -> None:
    """Check that some parameter's name begins with each prefix of the setting ``where``."""
    names = [name for name, _ in module.named_parameters()]
    parts = [name.split(".") for name in names]
    known = {".".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)}
    for prefix in only:
        if not any(name.startswith(prefix) for name in names):
            raise ConfigError(
                f"{where}: no parameter's name begins with '{prefix}'"
                f"{nearest(prefix, sorted(known))} "
                f"They begin with {', '.join(sorted({part[0] for part in parts}))}."
            )


def choose_parameters(module: torch.nn.Module, only: Sequence[str]) -> list[torch.nn.Parameter]:
    """Freeze all parameters but those with one of the prefixes (() freezes none); return the rest.
    Parameters that were frozen before stay frozen.
    """
    for name, parameter in module.named_parameters():
        if only and not name.startswith(tuple(only)):
            parameter.requires_grad_(False)
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def train_mode(module: torch.nn.Module) -> None:
    """Set training mode, but not for frozen parts: their statistics and outputs stay."""
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            part.eval()
