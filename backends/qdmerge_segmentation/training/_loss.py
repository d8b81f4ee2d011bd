"""The loss: binary cross-entropy plus soft Dice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

_SMOOTHING = 1.0
"""Pixels added to both halves of the Dice fraction; an empty mask then has a gradient."""


def segmentation_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, the mean over pixels, plus ``1 - (2 sum p t + 1) / (sum p + t + 1)``.

    The second term is the soft Dice loss (Milletari et al. 2016, arXiv 1606.04797) of
    ``p = sigmoid(logits)``, in its linear form; the sum of both is what nnU-Net is trained with
    (Isensee et al. 2021, arXiv 1809.10486).

    Args:
        logits: ``(n, h', w')``, foreground log-odds. They are resized bilinearly to the truth's
            size, as they are for predictions, so that thin structures count at full resolution.
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
    """Masks, ``(h, w)`` bool each, as ``(n, *size)`` float: the share of foreground in each pixel.

    A mask that is larger than ``size`` is averaged, not sampled: lines of one pixel leave a trace.
    """
    return torch.cat([_resized(mask, size) for mask in masks])


def _resized(mask: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    truth = torch.from_numpy(mask)[None].float()
    if mask.shape == size:
        return truth
    return functional.interpolate(truth[None], size, mode="area")[0]
