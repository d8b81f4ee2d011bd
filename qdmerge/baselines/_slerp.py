"""SLERP: spherical linear interpolation between the weights of two models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

#: Above this cosine, in magnitude, directions count as one line; the limit is mergekit's.
COLLINEAR = 0.9995


def slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """``sin((1-t) w) / sin(w) a + sin(t w) / sin(w) b`` with ``w`` the angle between the tensors.

    Shoemake 1985, "Animating rotation with quaternion curves". As mergekit's
    ``slerp``: each whole tensor is one vector, not normalized itself, and nearly collinear tensors
    (as those of one base's experts often are) are interpolated linearly.

    Args:
        a: Weights at ``t = 0``, float32.
        b: Weights at ``t = 1``, of the same shape.
        t: Where between them, 0 to 1.
    """
    norm = math.prod(float(torch.linalg.vector_norm(v)) or 1.0 for v in (a, b))
    cosine = float(torch.dot(a.flatten(), b.flatten())) / norm
    if abs(cosine) > COLLINEAR:
        return (1 - t) * a + t * b
    angle = math.acos(cosine)
    sine = math.sin(angle)
    return math.sin((1 - t) * angle) / sine * a + math.sin(t * angle) / sine * b


def slerp_chain(weights: Iterable[torch.Tensor], ts: Sequence[float]) -> torch.Tensor:
    """``slerp(... slerp(slerp(w_1, w_2, t_2), w_3, t_3) ..., w_K, t_K)``.

    With ``t_k = 1 / k`` all count alike, as far as the order of a chain allows.

    Args:
        weights: K models' weights of one tensor, float32: a tensor of shape ``(K, ...)``, or one
            after another.
        ts: ``t_2 ... t_K``.
    """
    models = iter(weights)
    merged = next(models)
    for model, t in zip(models, ts, strict=True):
        merged = slerp(merged, model, t)
    return merged
