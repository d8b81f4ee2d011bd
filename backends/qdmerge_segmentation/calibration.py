"""The experts at work on training images, for spaces that look at what layers receive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch

from qdmerge_segmentation.data import ImageSet

if TYPE_CHECKING:
    from qdmerge_segmentation.backend import SegmentationBackend

_BATCH = 16  # images at once


class ExpertsAtWork:
    """A :class:`qdmerge.spaces.Calibration`: experts segment images of their own tasks.

    Args:
        backend: The backend whose live model is used.
        images: Name of a task to what gives at most so many training images of it.
    """

    def __init__(
        self, backend: SegmentationBackend, images: Mapping[str, Callable[[int], ImageSet]]
    ) -> None:
        self.module = backend.segmenter.weights
        self._backend = backend
        self._images = images
        self._tasks: dict[str, list[str]] = {}
        for task in backend.tasks:
            self._tasks.setdefault(task.expert or task.name, []).append(task.name)
        self.experts = tuple(self._tasks)

    def key(self, examples: int) -> str:
        """A hash of images in the model's size, prompts included, of its code and number type."""
        segmenter = self._backend.segmenter
        made = f"{self._backend.facts()['dtype']} {segmenter.module}"
        digest = hashlib.sha256(made.encode())
        for expert, names in self._tasks.items():
            for name in names:
                digest.update(f"{expert} {name}".encode())
                for part, tensor in self._inputs(name, examples).items():
                    digest.update(f"{part} {tuple(tensor.shape)}".encode())
                    digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def passes(self, expert: str, examples: int) -> Iterator[Callable[[], object]]:
        """Sends training images of the expert's tasks through the live model."""
        segmenter = self._backend.segmenter
        for name in self._tasks[expert]:
            for batch in segmenter.batches(self._inputs(name, examples), _BATCH):
                yield partial(segmenter.maps, batch)

    def _inputs(self, name: str, examples: int) -> dict[str, torch.Tensor]:
        chosen = self._images[name](examples)
        return self._backend.segmenter.inputs(chosen.images, chosen.masks)
