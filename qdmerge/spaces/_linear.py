"""Spaces with a linear map; the plain ones: a weight per expert, per layer, every number alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise, starmap
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from qdmerge.checkpoints._export import write_adapter
from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.spaces._weights import Merger, WeightSpace


class LinearSpace(WeightSpace):
    """A space with a linear map from ``x`` to ``theta - theta_base``; solutions are unbounded.

    A linear combination of solutions is the same combination of the models' task vectors.
    """

    differentiable: ClassVar[bool] = True

    def merge(self, weights: Sequence[float] | Mapping[str, float]) -> np.ndarray:
        """Return the ``x`` of ``theta_base + sum_k weights[k] tau_k``.

        Args:
            weights: One weight per expert in order, or by name (missing names count as zero).

        Raises:
            ValueError: If the number of weights or a name does not fit the experts.
        """
        values = self.expert_weights(weights)
        return self.check(values @ np.stack([self.seeds[name] for name in self.experts]))

    def export_adapter(self, x: npt.ArrayLike, path: Path) -> Path:
        """Write the model of ``x`` as a LoRA adapter on the base, a folder that peft loads.

        Its rank is at most the sum of the experts' ranks; on the base, the weights are the merged
        model's to float32 rounding. Weights are float32. The folder appears only when complete.

        Args:
            x: The solution.
            path: A folder that does not exist yet, or is empty.

        Returns:
            The folder written.

        Raises:
            CheckpointError: If an expert is a whole checkpoint, or changes tensors in a way that
                LoRA cannot (trained as a whole, biases); or if ``path`` exists and is not an empty
                folder, or cannot be written.
            ValueError: If ``x`` is no solution of this space.
        """
        merged = self._merger(self._coordinates(x))
        return write_adapter(self.vectors, lambda name: merged(name, "cpu"), Path(path))


class ExpertSpace(LinearSpace):
    """``theta = theta_base + sum_k x[k] tau_k``: one weight per expert, in order.

    Tensors are merged element by element, so their shapes (convolutions too) do not matter.
    """

    name: ClassVar[str] = "expert"

    def __init__(self, vectors: TaskVectors) -> None:
        super().__init__(vectors, np.eye(len(vectors.experts)))

    def _merger(self, x: torch.Tensor) -> Merger:
        return lambda name, device: self.vectors.combine(name, x, device)


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
        # Tensors that are not floating-point have no group; any row serves, none is used.
        self._row = {
            name: position[labels[name]] if name in labels else 0 for name in vectors.names
        }
        super().__init__(vectors, np.tile(np.eye(len(vectors.experts)), len(self.groups)))

    def _merger(self, x: torch.Tensor) -> Merger:
        table = x.view(len(self.groups), len(self.experts))
        return lambda name, device: self.vectors.combine(name, table[self._row[name]], device)


class DenseSpace(LinearSpace):
    """``theta = theta_base + x``: every number that an expert can change is a coordinate.

    For small models, and for training all weights in the same budget as a search: ``x``, the seeds,
    and what archives keep are as large as the model. Coordinates follow the base's tensors in
    order, each flattened. Tensors that no expert can change have none.

    Args:
        vectors: The base and its experts.
    """

    name: ClassVar[str] = "dense"

    def __init__(self, vectors: TaskVectors) -> None:
        changed = [name for name in vectors.names if vectors.is_changed(name)]
        ends = np.cumsum([0, *(math.prod(vectors.shapes[name]) for name in changed)]).tolist()
        self._blocks = dict(zip(changed, starmap(slice, pairwise(ends)), strict=True))
        seeds = np.empty((len(vectors.experts), ends[-1]), np.float32)
        for row, expert in zip(seeds, vectors.experts, strict=True):
            for name, block in self._blocks.items():
                row[block] = vectors.delta(expert, name).numpy().ravel()
        super().__init__(vectors, seeds)

    def export_adapter(self, x: npt.ArrayLike, path: Path) -> Path:
        """See :meth:`WeightSpace.export_adapter`: models of this space have any rank."""
        return WeightSpace.export_adapter(self, x, path)

    def _merger(self, x: torch.Tensor) -> Merger:
        def merged(name: str, device: torch.device | str) -> torch.Tensor:
            tensor = self.vectors.combine(name, torch.zeros(len(self.experts)), device)
            if name not in self._blocks:
                return tensor
            return tensor + x[self._blocks[name]].view(tensor.shape).to(device)

        return merged


def layer_of(name: str) -> str:
    """Return the layer of a tensor: its name up to and including the first integer part.

    ``model.layers.3.mlp.up_proj.weight`` is in ``model.layers.3``. A tensor outside every layer
    is grouped by its own module: ``model.embed_tokens.weight`` is in ``model.embed_tokens``.
    """
    parts = name.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[: i + 1])
    return ".".join(parts[:-1]) or name
