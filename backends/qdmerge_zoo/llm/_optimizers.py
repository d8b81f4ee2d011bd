"""Which optimizer moves which parameters of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from qdmerge_zoo.llm._muon import Muon
from qdmerge_zoo.llm._recipe import Stage

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
