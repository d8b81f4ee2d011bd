"""The training of one model, step by step."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from qdmerge.errors import RunError
from qdmerge.execution import Report
from qdmerge_segmentation.metrics import METRICS
from qdmerge_segmentation.models import Segmenter, predict
from qdmerge_segmentation.models._segmenter import foreground
from qdmerge_segmentation.training._objective import (
    Mix,
    generator,
    segmentation_loss,
    truth_of,
    turned,
)
from qdmerge_segmentation.training._parameters import choose_parameters, train_mode
from qdmerge_segmentation.training._record import TRAINED_ON, settings_of
from qdmerge_segmentation.training._state import Position, State, tensors_of

if TYPE_CHECKING:
    from qdmerge_segmentation.config import SegmentationConfig, StageConfig
    from qdmerge_segmentation.training._plan import Model

REPORT_SECONDS = 2.0
"""Least time between two reports."""
SAVE_SECONDS = 30.0
"""Most work that is lost when a training is ended."""
_NORM = 1.0
"""Gradients of a greater norm are scaled down to it."""


class Training:
    """The training of one model.

    Args:
        model: What is trained.
        config: The configuration.
        segmenter: Holds the weights to start from.
    """

    def __init__(self, model: Model, config: SegmentationConfig, segmenter: Segmenter) -> None:
        self.model = model
        self.config = config
        self.segmenter = segmenter
        self.device = next(segmenter.module.parameters()).device
        self.train = {task: config.images(task, "train") for task in config.tasks}
        self.validation = {task: config.images(task, "validation") for task in config.tasks}
        sizes = {task: len(images) for task, images in self.train.items()}
        stage, seed = model.stage, config.training.seed
        self._mix = Mix(model.own, model.others, sizes, stage.replay, seed, model.name)
        chosen = choose_parameters(segmenter.module, stage.only)
        self._optimizer = torch.optim.AdamW(chosen, lr=stage.rate, weight_decay=stage.weight_decay)

    def run(self, report: Report) -> dict[str, Any]:
        """Trains to the end, from where an earlier process came to.

        Returns:
            The history for the record.

        Raises:
            RunError: The loss is not finite.
        """
        state = State(self.model.state, self.key())
        module, stage = self.segmenter.module, self.model.stage
        position = state.restore(module, self._optimizer)
        report({"name": self.model.name, "done": position.step})
        began = time.perf_counter() - position.seconds
        reported = saved = position.seconds
        if position.step == 0:
            self._mark(position)
        while position.step < stage.steps:
            position.losses.append(self.step(position.step))
            position.step += 1
            last = position.step == stage.steps
            due = last or position.step % self.config.training.validate_every == 0
            if due:
                self._mark(position)
            position.seconds = time.perf_counter() - began
            if not last and (due or position.seconds - saved > SAVE_SECONDS):
                state.save(module, self._optimizer, position)
                saved = position.seconds
            if due or position.seconds - reported > REPORT_SECONDS:
                report({"name": self.model.name, "done": position.step})
                reported = position.seconds
        return {
            **settings_of(self.model, self.config),
            "images": {
                task: {"train": len(images), "validation": len(self.validation[task])}
                for task, images in self.train.items()
            },
            TRAINED_ON: " ".join(
                image
                for task, images in self.train.items()
                if task in self.model.own or stage.replay
                for image in images.hashes
            ),
            "device": self.device.type,
            "seconds": round(position.seconds, 1),
            "curve": position.curve,
        }

    def _mark(self, position: Position) -> None:
        """Adds a point to the curve: the mean loss since the point before, and the scores."""
        loss = round(float(np.mean(position.losses)), 6) if position.losses else None
        point = {"step": position.step, "loss": loss, "validation": self.validate()}
        position.curve.append(point)
        position.losses.clear()

    def key(self) -> str:
        """Hash of the initial weights, the settings, the images and the kind of device."""
        digest = hashlib.sha256()
        for name, tensor in sorted(tensors_of(self.segmenter.module).items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        images = [
            (task, self.train[task].fingerprint, self.validation[task].fingerprint)
            for task in self.config.tasks
        ]
        settings = settings_of(self.model, self.config)
        digest.update(json.dumps([settings, images, self.device.type]).encode())
        return digest.hexdigest()

    def step(self, step: int) -> float:
        """Takes one optimizer step; returns the loss.

        All that is drawn for it depends on seed, name and step alone.

        Raises:
            RunError: The loss is not finite.
        """
        stage, training = self.model.stage, self.config.training
        batch = self._mix.batch(step, stage.batch_size)
        rng = generator(training.seed, self.model.name, "step", step)
        torch.manual_seed(int(rng.integers(2**63)))  # dropout knows no other generator
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
        """The mean loss of a batch: task and index of each image, and how it is turned."""
        images, masks = [], []
        for (task, index), symmetry in zip(batch, symmetries, strict=True):
            # Prompts are made from masks, so image and mask are turned before all else.
            images.append(turned(self.train[task].images[index], symmetry))
            masks.append(turned(self.train[task].masks[index], symmetry))
        inputs = self.segmenter.inputs(images, masks)
        height, width = inputs["pixel_values"].shape[-2:]
        truth = truth_of(masks, (height, width)).to(self.device)
        maps = self.segmenter.maps({key: one.to(self.device) for key, one in inputs.items()})
        rows: dict[tuple[int, ...] | None, list[int]] = {}
        for row, (task, _) in enumerate(batch):
            rows.setdefault(self.config.tasks[task].labels, []).append(row)
        losses = [
            segmentation_loss(foreground(maps[some], labels).float(), truth[some]).sum()
            for labels, some in rows.items()
        ]
        return torch.stack(losses).sum() / len(batch)

    def validate(self) -> dict[str, float]:
        """The mean score of each task on its validation images."""
        self.segmenter.module.eval()
        return {task: round(self._score(task), 6) for task in self.config.tasks}

    def _score(self, task: str) -> float:
        settings, images = self.config.tasks[task], self.validation[task]
        measure, size, scores = METRICS[settings.metric], self.config.batch_size, []
        for first in range(0, len(images), size):
            masks = images.masks[first : first + size]
            inputs = self.segmenter.inputs(images.images[first : first + size], masks)
            sizes = [mask.shape for mask in masks]
            found = predict(self.segmenter, inputs, sizes, size, labels=settings.labels)
            scores += [measure(*pair) for pair in zip(found, masks, strict=True)]
        return float(np.mean(scores))


def rate_at(step: int, stage: StageConfig) -> float:
    """The learning rate of a step, counted from 0, as a fraction of its peak."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    return (stage.steps - step) / max(1, stage.steps - stage.warmup)
