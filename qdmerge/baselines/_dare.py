"""DARE: drop most of each task vector at random, and rescale the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

import torch

from qdmerge.baselines._ties import merge_agreeing

#: How the elements left make up for those dropped; see :func:`drop`.
Rescale = Literal["density", "l1"]


def draws(seed: int, expert: str, name: str, shape: Sequence[int]) -> torch.Tensor:
    """Uniform draws in [0, 1) for one expert's task vector of one tensor.

    They depend on the arguments alone, so every process draws the same, on whatever device it
    computes.

    Returns:
        Float32 on the CPU, of ``shape``.
    """
    digest = hashlib.sha256(f"{seed}\n{expert}\n{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float32)


def drop(
    delta: torch.Tensor, draw: torch.Tensor, density: float, rescale: Rescale = "density"
) -> torch.Tensor:
    """A task vector with elements dropped at random and the rest rescaled (DARE, arXiv 2311.03099).

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
    """DARE with task arithmetic: the weighted sum of sparse task vectors (arXiv 2311.03099).

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
    """DARE with TIES: sparse task vectors, merged where they have the elected sign.

    With ``rescale="l1"`` as mergekit's ``dare_ties``: the weighted sum, not the mean, of the
    elements that agree (arXiv 2311.03099, 2306.01708). Arguments as for :func:`dare`.

    Returns:
        The merged task vector.
    """
    left = [drop(d, draw, density, rescale) for d, draw in zip(deltas, draws, strict=True)]
    return merge_agreeing(left, weights, mean=False)
