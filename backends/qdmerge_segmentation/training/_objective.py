"""What one step trains on and for: the batch, how its images are turned, and the loss."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional

_SMOOTHING = 1.0
"""Pixels added to both halves of the Dice fraction; an empty mask then has a gradient."""


def generator(seed: int, *what: str | int) -> np.random.Generator:
    """Return the random generator of a seed and a purpose."""
    text = "\0".join(map(str, (seed, *what)))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16]))


class Mix:
    """The order in which a model sees the training images of several tasks.

    Replayed tasks get evenly spaced places in the row of all batches, the model's own tasks the
    others; several tasks take turns. A task's images come in rounds, each round in a new order. So
    batches have nearly the same composition, all images of a task are seen equally often, and a
    batch depends on its step alone.

    Args:
        own: Tasks that the model is trained for.
        others: Tasks that are replayed; may be empty.
        sizes: Task to the number of its images.
        replay: Share of the places that replayed tasks get.
        seed: Decides, with the name, the order of the images.
        name: Name of the model.
    """

    def __init__(
        self,
        own: Sequence[str],
        others: Sequence[str],
        sizes: Mapping[str, int],
        replay: float,
        seed: int,
        name: str,
    ) -> None:
        self._own = own
        self._others = others
        self._sizes = sizes
        self._replay = replay if others else 0.0
        self._order = lru_cache(maxsize=4 * len(sizes))(
            lambda task, turn: generator(seed, name, "order", task, turn).permutation(sizes[task])
        )

    def batch(self, step: int, size: int) -> list[tuple[str, int]]:
        """Return task and index of each image of a step's batch."""
        return [self._at(place) for place in range(step * size, (step + 1) * size)]

    def _at(self, place: int) -> tuple[str, int]:
        replayed = int(place * self._replay)  # before this place
        if int((place + 1) * self._replay) > replayed:
            tasks, count = self._others, replayed
        else:
            tasks, count = self._own, place - replayed
        task = tasks[count % len(tasks)]
        turn, index = divmod(count // len(tasks), self._sizes[task])
        return task, int(self._order(task, turn)[index])


def turned(array: np.ndarray, symmetry: int) -> np.ndarray:
    """Return an image or a mask, ``(h, w, ...)``, under one of the square's eight symmetries.

    Symmetry 0 to 7: as many quarter turns, modulo 4; mirrored from 4 on. Images that are not square
    keep their shape: they are turned by 0 or 180 degrees.
    """
    quarters, mirrored = symmetry % 4, symmetry >= 4
    if array.shape[0] != array.shape[1]:
        quarters -= quarters % 2
    array = np.rot90(array, quarters)
    return np.ascontiguousarray(array[:, ::-1] if mirrored else array)


def segmentation_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return pixels' mean binary cross-entropy plus ``1 - (2 sum p t + 1) / (sum p + t + 1)``.

    The second term is the soft Dice loss (Milletari et al. 2016, arXiv 1606.04797) of
    ``p = sigmoid(logits)``, in its linear form; nnU-Net is trained with the sum of both (Isensee et
    al. 2021, arXiv 1809.10486).

    Args:
        logits: ``(n, h', w')``, foreground log-odds, resized bilinearly to the truth's size like
            predictions, so that thin structures count at full resolution.
        truth: ``(n, h, w)`` float in [0, 1].

    Returns:
        ``(n,)``, one loss per image.
    """
    if logits.shape != truth.shape:
        size = truth.shape[1:]
        logits = functional.interpolate(
            logits[:, None], size, mode="bilinear", align_corners=False
        )[:, 0]
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    common = (probability * truth).sum((1, 2))
    total = (probability + truth).sum((1, 2))
    dice = (2 * common + _SMOOTHING) / (total + _SMOOTHING)
    return entropy.mean((1, 2)) + 1 - dice


def truth_of(masks: Sequence[np.ndarray], size: tuple[int, int]) -> torch.Tensor:
    """Return masks, ``(h, w)`` bool each, as ``(n, *size)`` float: each pixel's foreground share.

    Larger masks are averaged, not sampled, so that lines of one pixel leave a trace.
    """
    return torch.cat([_resized(mask, size) for mask in masks])


def _resized(mask: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    truth = torch.from_numpy(mask)[None].float()
    if mask.shape == size:
        return truth
    return functional.interpolate(truth[None], size, mode="area")[0]
