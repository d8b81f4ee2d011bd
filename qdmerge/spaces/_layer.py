"""One weight per expert: for the whole model, or for each group of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import numpy as np
import torch

from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.spaces._weights import LinearSpace, Merger


class ExpertSpace(LinearSpace):
    """``theta = theta_base + sum_k x[k] tau_k``: ``x`` holds one weight per expert, in order.

    Tensors are merged element by element, so their shapes (convolutions too) do not matter.
    """

    name: ClassVar[str] = "expert"

    def __init__(self, vectors: TaskVectors) -> None:
        super().__init__(vectors, np.eye(len(vectors.experts)))

    def _merger(self, x: np.ndarray) -> Merger:
        weights = torch.from_numpy(x)
        return lambda name, device: self.vectors.combine(name, weights, device)


class LayerSpace(LinearSpace):
    """``theta_t = theta_base,t + sum_k x[g(t), k] tau_k,t`` for every tensor ``t`` of group ``g``.

    ``x`` is a table of shape ``(len(groups), K)``, flattened: group after group, in each one
    weight per expert. Groups appear in the order in which the base's tensors first name them.
    Tensors are merged element by element, so their shapes (convolutions too) do not matter.

    Args:
        vectors: The base and its experts.
        groups: ``"layer"`` (see :func:`layer_of`), or a function from tensor name to group.

    Attributes:
        groups: The groups' names, in the order of their coordinates.
    """

    name: ClassVar[str] = "layer"

    def __init__(
        self,
        vectors: TaskVectors,
        groups: Literal["layer"] | Callable[[str], str] = "layer",
    ) -> None:
        if groups != "layer" and not callable(groups):
            raise ValueError(f"expected groups to be 'layer' or a function; received {groups!r}")
        group_of = layer_of if groups == "layer" else groups
        labels = {name: group_of(name) for name in vectors.names if vectors.floating(name)}
        self.groups = tuple(dict.fromkeys(labels.values()))
        position = {group: i for i, group in enumerate(self.groups)}
        # Tensors that are not floating-point belong nowhere; any row serves, none is used.
        self._row = {
            name: position[labels[name]] if name in labels else 0 for name in vectors.names
        }
        super().__init__(vectors, np.tile(np.eye(len(vectors.experts)), len(self.groups)))

    def _merger(self, x: np.ndarray) -> Merger:
        table = torch.from_numpy(x).view(len(self.groups), len(self.experts))
        return lambda name, device: self.vectors.combine(name, table[self._row[name]], device)


def layer_of(name: str) -> str:
    """The layer a tensor belongs to: its name up to and including the first integer part.

    ``model.layers.3.mlp.up_proj.weight`` is in ``model.layers.3``. A tensor outside every layer
    is grouped by its own module: ``model.embed_tokens.weight`` is in ``model.embed_tokens``.
    """
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[: i + 1])
    return ".".join(parts[:-1]) or name
