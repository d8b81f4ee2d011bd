"""The experts at work on training images, for spaces that look at what layers receive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from qdmerge_segmentation.data import ImageSet
from qdmerge_segmentation.models import predict

if TYPE_CHECKING:
    from qdmerge_segmentation.backend import SegmentationBackend


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
        """A hash of images as the model sees them, prompts included, and of its number type."""
        digest = hashlib.sha256(self._backend.facts()["dtype"].encode())
        for expert, names in self._tasks.items():
            for name in names:
                digest.update(f"{expert} {name}".encode())
                for part, tensor in self._inputs(name, examples).items():
                    digest.update(f"{part} {tuple(tensor.shape)}".encode())
                    digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def run(self, expert: str, examples: int) -> None:
        """Segments at most so many training images of each of the expert's tasks."""
        for name in self._tasks[expert]:
            inputs = self._inputs(name, examples)
            sizes = [mask.shape for mask in self._images[name](examples).masks]
            predict(self._backend.segmenter, inputs, sizes, self._backend.batch_size)

    def _inputs(self, name: str, examples: int) -> dict[str, torch.Tensor]:
        chosen = self._images[name](examples)
        return self._backend.segmenter.inputs(chosen.images, chosen.masks)
