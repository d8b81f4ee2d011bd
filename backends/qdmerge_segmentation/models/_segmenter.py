"""Models that segment, as the backend sees them: images in, foreground log-odds and masks out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from qdmerge.errors import ConfigError
from qdmerge_segmentation.models._preprocessing import Preprocessing

Inputs = Mapping[str, torch.Tensor]
"""What :meth:`Segmenter.inputs` prepares, or a batch of it."""


class Segmenter(ABC):
    """A live module and its preprocessing.

    Args:
        module: The module.

    Attributes:
        module: Makes the predictions; it is trained and saved, and weight spaces express into it.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    @abstractmethod
    def inputs(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]
    ) -> dict[str, torch.Tensor]:
        """Prepare images once for many forward passes.

        Args:
            images: RGB images, ``(h, w, 3)`` uint8 each.
            masks: Their true regions, ``(h, w)`` bool each, for models that take prompts.

        Returns:
            Tensors on the CPU whose first dimension is that of the images. Pixels stay uint8, a
            quarter of the memory; they are normalized when used.

        Raises:
            ConfigError: The images cannot be brought to one size.
        """

    @abstractmethod
    def maps(self, inputs: Inputs) -> torch.Tensor:
        """Run the model; differentiable.

        Args:
            inputs: A batch of what :meth:`inputs` returns, on the module's device.

        Returns:
            Logits, ``(n, C, h', w')``; each map covers the whole image.
        """

    def logits(self, inputs: Inputs, labels: Sequence[int] | None = None) -> torch.Tensor:
        """Compute the log-odds that a pixel is foreground; differentiable.

        Args:
            inputs: A batch of what :meth:`inputs` returns, on the module's device.
            labels: Labels of the model that mean foreground; see :func:`foreground`.

        Returns:
            ``(n, h', w')`` float; above 0 means foreground. Each covers the whole image.

        Raises:
            ConfigError: ``labels`` do not fit the model.
        """
        return foreground(self.maps(inputs), labels)

    def batches(self, inputs: Inputs, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
        """Yield batches of nearly equal size, at most ``batch_size``, on the module's device."""
        device = next(self.module.parameters()).device
        count = len(next(iter(inputs.values())))
        split = {key: value.tensor_split(-(-count // batch_size)) for key, value in inputs.items()}
        for parts in zip(*split.values(), strict=True):
            yield {key: part.to(device) for key, part in zip(split, parts, strict=True)}


def foreground(maps: torch.Tensor, labels: Sequence[int] | None) -> torch.Tensor:
    """Compute the log-odds of the foreground from a model's logits.

    With probabilities ``softmax(maps)``, the log-odds of a set of labels against all others are
    ``logsumexp(maps[labels]) - logsumexp(maps[rest])``. A single map is the log-odds itself.

    Args:
        maps: Logits, ``(n, C, h, w)``.
        labels: Labels that mean foreground; None for the last of one or two.

    Returns:
        ``(n, h, w)``.

    Raises:
        ConfigError: ``labels`` is missing for three or more maps, names a label that the model
            lacks, or leaves none for the background.
    """
    count = maps.shape[1]
    if labels is None:
        if count > 2:
            raise ConfigError(
                f"the model has {count} labels; set labels to those that mean foreground"
            )
        labels = [count - 1]
    chosen = sorted(set(labels))
    if not chosen or chosen[0] < 0 or chosen[-1] >= count:
        raise ConfigError(f"labels {list(labels)}: the model's labels are 0 to {count - 1}")
    if count == 1:
        return maps[:, 0]
    rest = [label for label in range(count) if label not in chosen]
    if not rest:
        raise ConfigError(f"labels {list(labels)}: all labels of the model; none is background")
    return maps[:, chosen].logsumexp(dim=1) - maps[:, rest].logsumexp(dim=1)


class SemanticSegmenter(Segmenter):
    """A module from normalized images, ``(n, 3, h, w)``, to logits ``(n, C, h', w')`` or
    ``(n, h', w')``, or to an object that holds them as ``logits``, as transformers' models do.
    """

    def __init__(self, module: torch.nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__(module)
        self._preprocessing = preprocessing

    def inputs(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]
    ) -> dict[str, torch.Tensor]:
        """Implement :meth:`Segmenter.inputs`; masks are ignored."""
        return {"pixel_values": self._preprocessing.pixels(images)}

    def maps(self, inputs: Inputs) -> torch.Tensor:
        """Implement :meth:`Segmenter.maps`; ConfigError if the module returns anything else."""
        dtype = next(self.module.parameters()).dtype
        pixels = self._preprocessing.normalize(inputs["pixel_values"], dtype)
        output = self.module(pixels.contiguous(memory_format=torch.channels_last))
        return _as_maps(output, len(pixels))


def _as_maps(output: Any, count: int) -> torch.Tensor:
    maps = getattr(output, "logits", output)
    if not torch.is_tensor(maps) or maps.dim() not in (3, 4) or len(maps) != count:
        shape = f" of shape {tuple(maps.shape)}" if torch.is_tensor(maps) else ""
        raise ConfigError(
            f"the model returned a {type(maps).__name__}{shape} for {count} images; expected "
            "logits as a tensor (n, C, h, w) or (n, h, w), or an object with .logits"
        )
    return maps[:, None] if maps.dim() == 3 else maps


@torch.inference_mode()
def predict(
    segmenter: Segmenter,
    inputs: Inputs,
    sizes: Sequence[tuple[int, int]],
    batch_size: int,
    labels: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Segment images with a module in evaluation mode.

    Args:
        segmenter: The model.
        inputs: What :meth:`Segmenter.inputs` returned for the images.
        sizes: Height and width of each mask.
        batch_size: Most images run together.
        labels: Labels of the model that mean foreground; see :func:`foreground`.

    Returns:
        ``(h, w)`` bool for each image: log-odds, resized bilinearly, above 0.

    Raises:
        ConfigError: ``labels`` do not fit the model.
    """
    logits = [
        one
        for batch in segmenter.batches(inputs, batch_size)
        for one in segmenter.logits(batch, labels).float()
    ]
    masks = []
    for one, size in zip(logits, sizes, strict=True):
        if one.shape != size:
            one = interpolate(one[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        masks.append((one > 0).cpu().numpy())
    return masks
