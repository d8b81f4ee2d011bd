"""What an archive is built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qdmerge.archives._axes import Axis


@dataclass(frozen=True)
class ArchiveSpec:
    """What a search gives the factory of an archive.

    Attributes:
        task: Task whose score is the archive's objective.
        axes: Axes of the measures: the other tasks' scores, then the backend's own measures.
        solution_dim: Length of a solution.
        solution_dtype: dtype of solutions.
        qd_score_offset: Lowest possible objective, subtracted in QD scores.
        seed: Seed for the archive's own randomness.
        archives: How many archives of this kind the search has.
    """

    task: str
    axes: tuple[Axis, ...]
    solution_dim: int
    solution_dtype: np.dtype
    qd_score_offset: float
    seed: int
    archives: int = 1

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """(low, high) of every axis, as pyribs archives take them."""
        return [(axis.low, axis.high) for axis in self.axes]

    @property
    def storage(self) -> dict[str, Any]:
        """Keyword arguments that all pyribs archives share."""
        return {
            "solution_dim": self.solution_dim,
            "solution_dtype": self.solution_dtype,
            "qd_score_offset": self.qd_score_offset,
            "seed": self.seed,
        }

    @property
    def context(self) -> dict[str, Any]:
        """Values that fill the parameters of a configured archive, by name."""
        return {
            "spec": self,
            "ranges": self.ranges,
            "measure_dim": len(self.axes),
            **self.storage,
        }
