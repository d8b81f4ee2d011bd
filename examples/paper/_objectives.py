"""The training objectives of the built-in backends, of their live models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Objective = Callable[[int], torch.Tensor]
"""The mean loss of the live model on the training batch of a step."""


def objective_of(
    config: Any, backend: Any, batch: int, seed: int
) -> tuple[torch.nn.Module, Objective]:
    """The live model, and the loss that the backend's own training uses, on all tasks evenly."""
    makers = {"segmentation": _segmentation, "llm": _llm}
    return makers[config.name](config, backend, batch, seed)


def _segmentation(
    config: Any, backend: Any, batch: int, seed: int
) -> tuple[torch.nn.Module, Objective]:
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

    def loss(step: int) -> torch.Tensor:
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
        logits = segmenter.logits(inputs)
        truth = truth_of(masks, inputs["pixel_values"].shape[-2:])
        return segmentation_loss(logits, truth).mean()

    return segmenter.module, loss


def _llm(config: Any, backend: Any, batch: int, seed: int) -> tuple[torch.nn.Module, Objective]:
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

    def loss(step: int) -> torch.Tensor:
        turns = [data[place % len(data)] for place in range(step * batch, (step + 1) * batch)]
        pairs = [pair for one in turns for pair in one.take(1)]
        return backend.model(**collate(pairs, tokenizer.pad_token_id)).loss

    return backend.model, loss
