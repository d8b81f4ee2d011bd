"""What experts do on training images, for spaces that look at what layers receive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch

from qdmerge.backend import Task
from qdmerge_segmentation.data import ImageSet
from qdmerge_segmentation.models import Segmenter

_BATCH = 16
"""Images at once."""


class ExpertCalibration:
    """A :class:`qdmerge.spaces.Calibration`: experts segment images of their own tasks.

    Args:
        segmenter: The live model.
        tasks: The tasks.
        images: Name of a task to a function that returns at most so many training images of it.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        tasks: Sequence[Task],
        images: Mapping[str, Callable[[int], ImageSet]],
    ) -> None:
        self.module = segmenter.module
        self._segmenter = segmenter
        self._images = images
        self._tasks: dict[str, list[str]] = {}
        for task in tasks:
            self._tasks.setdefault(task.expert or task.name, []).append(task.name)
        self.experts = tuple(self._tasks)

    def key(self, examples: int) -> str:
        """Return a hash of images in the model's size, prompts, the model's code and its dtype."""
        return inputs_digest(
            self._segmenter,
            (
                (f"{expert} {name}", self._inputs(name, examples))
                for expert, names in self._tasks.items()
                for name in names
            ),
        )

    def passes(self, expert: str, examples: int) -> Iterator[Callable[[], object]]:
        """Yield calls that send training images of the expert's tasks through the live model."""
        for name in self._tasks[expert]:
            for batch in self._segmenter.batches(self._inputs(name, examples), _BATCH):
                yield partial(self._segmenter.maps, batch)

    def _inputs(self, name: str, examples: int) -> dict[str, torch.Tensor]:
        chosen = self._images[name](examples)
        return self._segmenter.inputs(chosen.images, chosen.masks)


def inputs_digest(
    segmenter: Segmenter, parts: Iterable[tuple[str, Mapping[str, torch.Tensor]]]
) -> str:
    """Return the SHA-256 of a model's code and dtype, and of names and inputs in their order."""
    dtype = str(next(segmenter.module.parameters()).dtype).removeprefix("torch.")
    digest = hashlib.sha256(f"{dtype} {segmenter.module}".encode())
    for name, inputs in parts:
        digest.update(name.encode())
        for part, tensor in inputs.items():
            digest.update(f"{part} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
