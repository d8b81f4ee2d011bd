"""What two trainings that should be one have in common."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file


def same(one: Path, other: Path, tolerance: float = 1e-3) -> bool:
    """Whether the weights in two safetensors files are one vector up to a share of its norm.

    Where tensors lie in memory decides the kernels, whose rounding Adam magnifies: without bound
    for weights that have no gradient, such as biases of attention keys, so a tensor for itself
    tells nothing.
    """
    a, b = load_file(one), load_file(other)
    kinds = [{name: (t.dtype, t.shape) for name, t in tensors.items()} for tensors in (a, b)]
    if kinds[0] != kinds[1]:
        return False
    apart, whole = (
        torch.stack([torch.linalg.norm(tensor.double()) for tensor in tensors]).norm()
        for tensors in ([a[name] - b[name] for name in a], a.values())
    )
    return bool(apart <= tolerance * whole)


def never(stage: str, done: int, total: int) -> None:
    """Progress of models that are there already."""
    raise AssertionError(f"{stage} was made again")
