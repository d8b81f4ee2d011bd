"""Masks in the images' own size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from qdmerge_segmentation.models._base import Inputs, Segmenter


@torch.inference_mode()
def predict(
    segmenter: Segmenter,
    inputs: Inputs,
    sizes: Sequence[tuple[int, int]],
    batch_size: int,
    labels: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Segment images; the module has to be in evaluation mode.

    Args:
        segmenter: The model.
        inputs: What :meth:`Segmenter.inputs` gave for the images.
        sizes: Height and width of each mask wanted.
        batch_size: Most images run together.
        labels: Labels of the model that mean foreground; see :func:`foreground`.

    Returns:
        ``(h, w)`` bool for each image: log-odds, resized bilinearly, above 0.

    Raises:
        ConfigError: If ``labels`` do not fit the model.
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
