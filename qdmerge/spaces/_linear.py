"""Spaces whose maps are linear: every linear merge of the experts has an ``x``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qdmerge.spaces._export_adapter import write_adapter
from qdmerge.spaces._weights import WeightSpace


class LinearSpace(WeightSpace):
    """A linear map from ``x`` to ``theta - theta_base``; solutions are unbounded.

    A linear combination of solutions is the same combination of the models' task vectors.
    """

    def merge(self, weights: Sequence[float] | Mapping[str, float]) -> np.ndarray:
        """The ``x`` of ``theta_base + sum_k weights[k] tau_k``.

        Args:
            weights: One weight per expert in order, or by name (missing ones count as zero).

        Raises:
            ValueError: If the number of weights or a name does not fit the experts.
        """
        values = self.expert_weights(weights)
        return self.check(values @ np.stack([self.seeds[name] for name in self.experts]))

    def export_adapter(self, x: npt.ArrayLike, path: Path) -> Path:
        """Write the model of ``x`` as a LoRA adapter on the base, a folder that peft loads.

        Its rank is at most the sum of the experts' ranks; on the base it gives the merged model's
        weights to float32 rounding. Weights are float32. The folder appears only when complete.

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
        merged = self._merger(self.check(x))
        return write_adapter(self.vectors, lambda name: merged(name, "cpu"), Path(path))
