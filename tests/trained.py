"""What two trainings that should be one have in common."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file


def same(one: Path, other: Path) -> bool:
    """Whether the weights in two safetensors files, as one vector, differ by rounding at most.

    Where tensors lie in memory decides the kernels, whose rounding Adam magnifies: without bound
    for weights that have no gradient, such as biases of attention keys, so a tensor for itself
    tells nothing. Of the norm of all weights, kernels of another thread count move the models of
    these tests by 7e-4 at most, a step that is left out in the middle of five by 1.2e-3 at least,
    another seed by 1.
    """
    a, b = load_file(one), load_file(other)
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return False
    apart, whole = (
        torch.stack([torch.linalg.norm(tensor.double()) for tensor in tensors]).norm()
        for tensors in ([a[name] - b[name] for name in a], a.values())
    )
    return bool(apart <= 1e-3 * whole)
