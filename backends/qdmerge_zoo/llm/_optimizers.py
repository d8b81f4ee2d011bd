"""The optimizers of the zoo's models: Muon in single precision, and which parameters it moves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch

from qdmerge_zoo.llm._spec import Stage

MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum with updates orthogonalized in float32 (Jordan et al. 2024, "Muon").
    ``torch.optim.Muon`` computes in bfloat16, which would make other zoos.
    """

    def __init__(self, matrices: Iterable[torch.Tensor], lr: float) -> None:
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                shapes[matrix.shape].append(matrix)
            for shape, matrices in shapes.items():
                updates = orthogonalize(torch.stack([self._nesterov(m) for m in matrices]))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.add_(update, alpha=-group["lr"] * scale)

    def _nesterov(self, matrix: torch.Tensor) -> torch.Tensor:
        assert matrix.grad is not None
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
        return matrix.grad.lerp(momentum, MOMENTUM)


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Bring all singular values of a batch (n, rows, columns) near 1 (about 0.7 to 1.2), by quintic
    Newton-Schulz iteration with Muon's coefficients.
    """
    wide = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrices.shape[-2] > matrices.shape[-1] else x


_ADAMW = partial(torch.optim.AdamW, betas=(0.9, 0.95), weight_decay=0.0)
OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {"muon": Muon, "adamw": _ADAMW}
"""The names that a stage may give to the optimizer of its matrices."""


def optimizers(model: torch.nn.Module, stage: Stage) -> list[torch.optim.Optimizer]:
    """Return the stage's optimizer for the blocks' matrices and AdamW for embeddings and norms."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    matrices: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for parameter in model.parameters():
        hidden = parameter.ndim == 2 and id(parameter) not in embeddings
        (matrices if hidden else others).append(parameter)
    return [
        OPTIMIZERS[stage.optimizer](matrices, lr=stage.rate),
        _ADAMW(others, lr=stage.side_rate),
    ]
