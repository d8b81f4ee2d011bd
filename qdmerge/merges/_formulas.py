"""TIES, DARE and SLERP, a tensor at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch

Rescale = Literal["density", "l1"]
"""How the elements left make up for those dropped; see :func:`drop`."""

_COLLINEAR = 0.9995
"""Above this cosine, in magnitude, directions count as one line; the limit is mergekit's."""


def trim(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Keep a task vector's largest magnitudes, zero all others (TIES, section 4.1, step 1).

    Kept are ``max(1, floor(density * n))`` of ``n`` elements, and all that are as large as the
    smallest of them; none at a density of 0.

    Args:
        delta: Task vector of one tensor, of any shape, float32.
        density: Share of the elements to keep, 0 to 1.
    """
    n = delta.numel()
    if density >= 1 or n == 0:
        return delta
    if density <= 0:
        return torch.zeros_like(delta)
    magnitudes = delta.abs()
    kept = max(1, int(density * n))
    threshold = magnitudes.flatten().kthvalue(n - kept + 1).values
    return torch.where(magnitudes >= threshold, delta, 0)


def merge_agreeing(
    deltas: Sequence[torch.Tensor], weights: Sequence[float], *, mean: bool
) -> torch.Tensor:
    """Elect each parameter's sign, that of ``sum_k weights[k] deltas[k]``, and sum the weighted
    elements of that sign; ``mean`` divides by their weights (TIES, arXiv 2306.01708, 4.1).
    """
    pairs = list(zip(deltas, weights, strict=True))
    elected = torch.zeros_like(deltas[0])
    for delta, weight in pairs:
        elected += weight * delta
    positive = elected >= 0
    total, mass = torch.zeros_like(elected), torch.zeros_like(elected)
    for delta, weight in pairs:
        term = weight * delta
        agrees = torch.where(positive, term > 0, term < 0)
        total += torch.where(agrees, term, 0)
        mass += weight * agrees
    return total / torch.where(mass == 0, 1, mass) if mean else total


def ties(deltas: Iterable[torch.Tensor], weights: Sequence[float], density: float) -> torch.Tensor:
    """Return the weighted mean of trimmed, agreeing task vectors (TIES, arXiv 2306.01708).

    As mergekit's ``ties``: trimmed per tensor, normalized. Both sources multiply the result by a
    scale ``lambda``; here the caller does.

    Args:
        deltas: K task vectors of one tensor, float32: a tensor of shape ``(K, ...)``, or one after
            another.
        weights: One weight per task vector.
        density: Share of each task vector's elements to keep, 0 to 1.

    Returns:
        The merged task vector.
    """
    return merge_agreeing([trim(delta, density) for delta in deltas], weights, mean=True)


def draws(seed: int, expert: str, name: str, shape: Sequence[int]) -> torch.Tensor:
    """Return uniform draws in [0, 1) for one expert's task vector of one tensor.

    They depend on the arguments alone: the same in every process, whatever the device.

    Returns:
        Float32 on the CPU, of ``shape``.
    """
    digest = hashlib.sha256(f"{seed}\n{expert}\n{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float32)


def drop(
    delta: torch.Tensor, draw: torch.Tensor, density: float, rescale: Rescale = "density"
) -> torch.Tensor:
    """Drop elements of a task vector at random and rescale the rest (DARE, arXiv 2311.03099).

    Args:
        delta: Task vector of one tensor, float32.
        draw: Uniform draws of the same shape; an element stays where its draw is below ``density``.
        density: Probability to stay, 0 to 1: one minus the paper's drop rate.
        rescale: ``"density"`` divides by the density, so that the expectation is the task vector
            (the paper, equation 2); ``"l1"`` restores the sum of the magnitudes, as mergekit does.
    """
    if density >= 1:
        return delta
    if density <= 0:
        return torch.zeros_like(delta)
    left = torch.where(draw.to(delta.device) < density, delta, 0)
    if rescale == "density":
        return left / density
    before, after = float(delta.abs().sum()), float(left.abs().sum())
    return left * (before / after) if min(before, after) >= 1e-7 else left


def dare(
    deltas: Iterable[torch.Tensor],
    weights: Sequence[float],
    density: float,
    draws: Iterable[torch.Tensor],
    rescale: Rescale = "density",
) -> torch.Tensor:
    """Return the weighted sum of sparse task vectors: DARE with task arithmetic (arXiv 2311.03099).

    With ``rescale="l1"`` as mergekit's ``dare_linear``.

    Args:
        deltas: K task vectors of one tensor, float32: a tensor of shape ``(K, ...)``, or one after
            another.
        weights: One weight per task vector.
        density: Probability of an element to stay, 0 to 1.
        draws: Uniform draws for each task vector, of its shape.
        rescale: See :func:`drop`.

    Returns:
        The merged task vector.
    """
    terms = (
        weight * drop(delta, draw, density, rescale)
        for delta, weight, draw in zip(deltas, weights, draws, strict=True)
    )
    total = next(terms)
    for term in terms:
        total += term
    return total


def dare_ties(
    deltas: Iterable[torch.Tensor],
    weights: Sequence[float],
    density: float,
    draws: Iterable[torch.Tensor],
    rescale: Rescale = "density",
) -> torch.Tensor:
    """Merge sparse task vectors where they have the elected sign: DARE with TIES.

    With ``rescale="l1"`` as mergekit's ``dare_ties``: the weighted sum, not the mean, of the
    elements that agree (arXiv 2311.03099, 2306.01708). Arguments as for :func:`dare`.

    Returns:
        The merged task vector.
    """
    left = [drop(d, draw, density, rescale) for d, draw in zip(deltas, draws, strict=True)]
    return merge_agreeing(left, weights, mean=False)


def slerp(a: torch.Tensor, b: torch.Tensor, t: float | torch.Tensor) -> torch.Tensor:
    """Return ``(sin((1-t) w) a + sin(t w) b) / sin(w)``, ``w`` the angle between the tensors.

    Shoemake 1985, "Animating rotation with quaternion curves". As mergekit's
    ``slerp``: each whole tensor is one vector, not normalized itself, and nearly collinear tensors
    (as those of one base's experts often are) are interpolated linearly.

    Args:
        a: Weights at ``t = 0``, float32.
        b: Weights at ``t = 1``, of the same shape.
        t: Where between them, 0 to 1.
    """
    norms = [torch.linalg.vector_norm(v).cpu().double() for v in (a, b)]
    product = torch.dot(a.flatten(), b.flatten()).cpu().double()
    cosine = product / math.prod(torch.where(norm == 0, 1, norm) for norm in norms)
    shares = [torch.as_tensor(share, dtype=torch.float64) for share in (1 - t, t)]
    if cosine.abs() <= _COLLINEAR:
        angle = torch.acos(cosine)
        shares = [torch.sin(share * angle) / torch.sin(angle) for share in shares]
    first, second = (share.to(a) for share in shares)
    return first * a + second * b


def slerp_chain(
    weights: Iterable[torch.Tensor], ts: Sequence[float | torch.Tensor]
) -> torch.Tensor:
    """Return ``slerp(... slerp(slerp(w_1, w_2, t_2), w_3, t_3) ..., w_K, t_K)``.

    With ``t_k = 1 / k`` all models count alike, as far as the order of a chain allows.

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
