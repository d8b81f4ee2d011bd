"""What two trainings that should be one have in common."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file


def same(one: Path, other: Path) -> bool:
    """Whether the weights in two safetensors files differ by rounding at most.

    Where tensors lie in memory decides the kernels, whose rounding Adam magnifies. For the LoRA
    adapter of these tests, noise of 1e-7 in the base moves the weights by about 1e-4 of their norm,
    another seed by 1.4.
    """
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(
        torch.linalg.norm(a[name].double() - b[name].double())
        <= 1e-3 * torch.linalg.norm(a[name].double())
        for name in a
    )
