"""Scores of single images: how well a predicted mask agrees with the true one.

Both scores lie in [0, 1], are symmetric, and rank the predictions of an image alike:
``iou = dice / (2 - dice)``. An image without foreground scores 1 if the prediction is empty, and 0
if a single pixel is predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]
"""Score of an image in [0, 1] from predicted and true mask, ``(h, w)`` bool each."""
MetricName = Literal["dice", "iou"]
"""Names of metrics in configurations; a new one also needs its lines in the tables below."""


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return ``2 |P and T| / (|P| + |T|)``, the F1 score of the foreground pixels (Dice 1945).

    Args:
        predicted: ``(h, w)`` bool.
        truth: ``(h, w)`` bool.

    Returns:
        1 if both masks are empty.

    Raises:
        ValueError: The masks are not bool, or of different sizes.
    """
    common, total = _counts(predicted, truth)
    return 2 * common / total if total else 1.0


def iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return ``|P and T| / |P or T|``, intersection over union (Jaccard 1912).

    Args:
        predicted: ``(h, w)`` bool.
        truth: ``(h, w)`` bool.

    Returns:
        1 if both masks are empty.

    Raises:
        ValueError: The masks are not bool, or of different sizes.
    """
    common, total = _counts(predicted, truth)
    return common / (total - common) if total else 1.0


METRICS: dict[MetricName, Metric] = {"dice": dice, "iou": iou}
MEANS: dict[MetricName, str] = {"dice": "mean Dice", "iou": "mean IoU"}
"""What the mean over images is called."""


def _counts(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Count the pixels in both masks, and the sum of the masks' pixels."""
    if predicted.dtype != bool or truth.dtype != bool or predicted.shape != truth.shape:
        raise ValueError(
            "expected two bool masks of one size; got "
            f"{predicted.dtype} {predicted.shape} and {truth.dtype} {truth.shape}"
        )
    common, total = (predicted & truth).sum(), predicted.sum() + truth.sum()
    return int(common), int(total)
