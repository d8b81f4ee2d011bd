"""One coordinate per expert: task arithmetic."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from qdmerge.spaces._linear import LinearSpace
from qdmerge.spaces._task_vectors import TaskVectors
from qdmerge.spaces._weights import Merger


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
