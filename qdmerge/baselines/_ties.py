"""TIES: trim the task vectors, elect a sign for each parameter, merge those that agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch


def trim(delta: torch.Tensor, density: float) -> torch.Tensor:
    """The largest magnitudes of a task vector, all others zero (TIES, section 4.1, step 1).

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
    """Elect a sign for each parameter, and merge the weighted elements that have it.

    The sign is that of ``sum_k weights[k] deltas[k]``, positive where this is 0 (TIES, arXiv
    2306.01708, section 4.1, steps 2 and 3; weights as mergekit has them).

    Args:
        deltas: K task vectors of one tensor, float32.
        weights: One weight per task vector.
        mean: Whether to divide by the sum of the weights that agree; else the sum is returned.

    Returns:
        The merged task vector; 0 where no element, or only weights of 0, agree.
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
    """TIES-Merging (arXiv 2306.01708): the weighted mean of trimmed task vectors that agree.

    As mergekit's ``ties``: trimmed per tensor, normalized. Both sources multiply the result by a
    scale ``lambda``; this function leaves it to the caller.

    Args:
        deltas: K task vectors of one tensor, float32: a tensor of shape ``(K, ...)``, or one after
            another.
        weights: One weight per task vector.
        density: Share of each task vector's elements to keep, 0 to 1.

    Returns:
        The merged task vector.
    """
    return merge_agreeing([trim(delta, density) for delta in deltas], weights, mean=True)
