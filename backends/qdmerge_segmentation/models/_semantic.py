"""Models that label every pixel by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from qdmerge.errors import ConfigError
from qdmerge_segmentation.models._base import Inputs, Segmenter
from qdmerge_segmentation.models._preprocessing import Preprocessing


class SemanticSegmenter(Segmenter):
    """A module from images, ``(n, 3, h, w)`` normalized, to logits, by itself.

    Args:
        module: Gives ``(n, C, h', w')`` or ``(n, h', w')``, or an object that holds such a tensor
            as ``logits``, as transformers' models do.
        preprocessing: How the module wants its images.
    """

    def __init__(self, module: torch.nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__(module)
        self._preprocessing = preprocessing

    def inputs(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]
    ) -> dict[str, torch.Tensor]:
        """See :meth:`Segmenter.inputs`; masks are not looked at."""
        return {"pixel_values": self._preprocessing.pixels(images)}

    def maps(self, inputs: Inputs) -> torch.Tensor:
        """See :meth:`Segmenter.maps`.

        Raises:
            ConfigError: If the module returns something else than maps of logits.
        """
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
