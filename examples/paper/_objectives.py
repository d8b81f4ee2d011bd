"""The training objectives of the built-in backends, as functions of a model's weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

Objective = Callable[[Mapping[str, torch.Tensor], int], torch.Tensor]
"""The mean loss of a model, by its tensors, on the training batch of a step."""


def objective_of(config: Any, backend: Any, batch: int, seed: int) -> Objective:
    """The loss that the backend's own training uses, on the training split of all tasks evenly."""
    makers = {"segmentation": _segmentation, "llm": _llm}
    return makers[config.name](config, backend, batch, seed)


def _segmentation(config: Any, backend: Any, batch: int, seed: int) -> Objective:
    """Cross-entropy and Dice of training images under random symmetries."""
    from qdmerge_segmentation.training import (
        Mix,
        generator,
        segmentation_loss,
        truth_of,
        turned,
    )

    images = {task: config.images(task, "train") for task in config.tasks}
    sizes = {task: len(found) for task, found in images.items()}
    mix = Mix(list(images), [], sizes, 0.0, seed, "ceiling")
    segmenter = backend.segmenter

    def loss(weights: Mapping[str, torch.Tensor], step: int) -> torch.Tensor:
        chosen = mix.batch(step, batch)
        turns = generator(seed, "ceiling", step).integers(8, size=batch).tolist()
        pictures, masks = (
            [
                turned(getattr(images[task], which)[index], turn)
                for (task, index), turn in zip(chosen, turns, strict=True)
            ]
            for which in ("images", "masks")
        )
        inputs = segmenter.inputs(pictures, masks)
        logits = functional_call(
            _Logits(segmenter), {f"module.{k}": v for k, v in weights.items()}, (inputs,)
        )
        truth = truth_of(masks, inputs["pixel_values"].shape[-2:])
        return segmentation_loss(logits, truth).mean()

    return loss


class _Logits(torch.nn.Module):
    """A segmenter's logits as the output of a module, for :func:`functional_call`."""

    def __init__(self, segmenter: Any) -> None:
        super().__init__()
        self.module, self.segmenter = segmenter.module, segmenter

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.segmenter.logits(inputs)


def _llm(config: Any, backend: Any, batch: int, seed: int) -> Objective:
    """Cross-entropy of the answers to the training items of the tiny zoo."""
    from qdmerge_llm.sources import resolve
    from qdmerge_zoo.llm.train import Sequences, collate

    spec, tokenizer = config.sources["tiny"].spec, backend.tokenizer
    seeds = np.random.SeedSequence(seed).spawn(spec.tasks)
    data = [
        Sequences(
            resolve(f"tiny://{name}.jsonl", config.scheme), tokenizer, np.random.default_rng(child)
        )
        for name, child in zip(spec.names, seeds, strict=True)
    ]

    def loss(weights: Mapping[str, torch.Tensor], step: int) -> torch.Tensor:
        turns = [data[place % len(data)] for place in range(step * batch, (step + 1) * batch)]
        pairs = [pair for one in turns for pair in one.take(1)]
        return functional_call(
            backend.model, dict(weights), kwargs=collate(pairs, tokenizer.pad_token_id)
        ).loss

    return loss
