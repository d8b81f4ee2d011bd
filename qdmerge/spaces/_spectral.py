"""Multipliers on the singular components of every task vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from qdmerge.checkpoints._checkpoint import as_matrix
from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.spaces._factors import Factors, factorize, kept_rank
from qdmerge.spaces._weights import LinearSpace, Merger, WeightSpace


class SpectralCoordinates(WeightSpace):
    """Spaces with multipliers on the singular components of every task vector.

    Coordinates follow the base's tensors in order; within a tensor, the experts in order. A
    tensor of two or more dimensions is an ``m x n`` matrix: its first dimension by all others, so
    ``out x in*kh*kw`` for a convolution; embeddings too. It has ``min(rank, m, n)`` multipliers,
    largest singular value first, then the rest's one coordinate; fewer where all experts are LoRA
    adapters of lower rank. A tensor of one or no dimension has one coordinate per expert. Tensors
    that no expert can change have none: those that are not floating-point, and those that
    adapters leave alone where all experts are adapters.

    Args:
        vectors: The base and its experts.
        rank: Components kept of each expert's matrices, at least 1.
        cache: Folder that keeps factorizations; None for :func:`qdmerge.storage.cache_dir`.
        more: Bounds of further coordinates at the end, 0 for base and experts.

    Attributes:
        matrices: Names of the tensors with singular components, in order.

    Raises:
        CheckpointError: If a task vector is not finite, or the cache cannot be written.
    """

    def __init__(
        self,
        vectors: TaskVectors,
        rank: int = 16,
        cache: Path | None = None,
        *,
        more: Sequence[tuple[float, float]] = (),
    ) -> None:
        if rank < 1:
            raise ValueError(f"expected a rank of at least 1; received {rank}")
        self.rank = rank
        shapes = {name: vectors.shapes[name] for name in vectors.names if vectors.is_changed(name)}
        self.matrices = tuple(name for name, shape in shapes.items() if len(shape) >= 2)
        self._ranks = {name: kept_rank(vectors, name, rank) for name in self.matrices}
        experts = np.arange(len(vectors.experts))
        widths = [self._ranks.get(name, 0) + 1 for name in shapes]
        owner = np.concatenate([np.repeat(experts, width) for width in widths])
        seeds = np.pad((owner == experts[:, None]).astype(float), [(0, 0), (0, len(more))])
        lower, upper = np.full((2, seeds.shape[1]), [[-np.inf], [np.inf]])
        if more:
            lower[-len(more) :], upper[-len(more) :] = np.transpose(more)
        super().__init__(vectors, seeds, lower, upper)
        # Where each tensor's block of (K, r + 1) coordinates starts. Tensors that no expert
        # changes have no coordinates; any block serves, none is used.
        starts = len(experts) * (np.cumsum(widths) - widths)
        found = zip(shapes, starts.tolist(), strict=True)
        self._start = dict.fromkeys(vectors.names, 0) | dict(found)
        self._factors = factorize(vectors, self.matrices, rank, cache)

    def spectral_coordinates(self, expert: str) -> tuple[np.ndarray, ...]:
        """Positions in ``x`` of one expert's multipliers, one integer array per matrix.

        The arrays follow :attr:`matrices`; each runs from the largest singular value down.

        Raises:
            ValueError: If there is no such expert.
        """
        k = self._index(expert)
        starts = (
            (self._start[n] + k * (self._ranks[n] + 1), self._ranks[n]) for n in self.matrices
        )
        return tuple(np.arange(start, start + r) for start, r in starts)

    def energy(self, expert: str) -> float:
        """Share of the squared Frobenius norm of the expert's matrices held by the components.

        1.0 means that the kept rank says all; an expert equal to the base gives 1.0 too.
        """
        k = self._index(expert)
        kept = sum(
            float(self._factors.singular(n)[k].double().square().sum()) for n in self.matrices
        )
        total = sum(float(self._factors.norm2(n)[k]) for n in self.matrices)
        return min(1.0, kept / total) if total else 1.0

    def _index(self, expert: str) -> int:
        if expert not in self.experts:
            raise ValueError(f"expected one of the experts {list(self.experts)}; got {expert!r}")
        return self.experts.index(expert)

    def _block(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """The coordinates of a tensor: ``(K, r + 1)``, the rest's last."""
        start, width = self._start[name], self._ranks.get(name, 0) + 1
        return x[start : start + len(self.experts) * width].view(len(self.experts), width)


class SpectralSpace(SpectralCoordinates, LinearSpace):
    """Experts and their linear merges exactly, and moves along the experts' singular directions.

    For a matrix with task vectors ``tau_k``, whose leading ``r`` singular components are
    ``U_k diag(s_k) V_k^T``, and coordinates ``c_k`` (``r`` multipliers) and ``rho_k`` (one):

        theta = theta_base + sum_k [ rho_k tau_k + U_k diag((c_k - rho_k) s_k) V_k^T ]

    so ``c_k`` scales the components and ``rho_k`` the exact rest, which need not be stored.
    SVD mutation (CycleQD, arXiv 2410.14735, as in the released code) is noise on ``c_k``.

    Coordinates are those of :class:`SpectralCoordinates`.

    Args:
        vectors: The base and its experts.
        rank: Components kept of each expert's matrices, at least 1.
        cache: Folder that keeps factorizations; None for :func:`qdmerge.storage.cache_dir`.

    Attributes:
        matrices: Names of the tensors with singular components, in order.

    Raises:
        CheckpointError: If a task vector is not finite, or the cache cannot be written.
    """

    name: ClassVar[str] = "spectral"

    def _merger(self, x: np.ndarray) -> Merger:
        coordinates = torch.from_numpy(x)

        def merged(name: str, device: torch.device | str) -> torch.Tensor:
            block = self._block(coordinates, name)
            return spectral_merge(self.vectors, self._factors, name, block, device)

        return merged


def spectral_merge(
    vectors: TaskVectors,
    factors: Factors,
    name: str,
    block: torch.Tensor,
    device: torch.device | str,
) -> torch.Tensor:
    """One tensor of a :class:`SpectralSpace`, float32 on ``device``.

    Args:
        vectors: The base and its experts.
        factors: The singular components of their matrices.
        name: The tensor.
        block: Its coordinates, ``(K, r + 1)``.
        device: Where to compute.
    """
    rest = block[:, -1].contiguous()
    tensor = vectors.combine(name, rest, device)
    scale = (block[:, :-1] - rest[:, None]).reshape(-1)
    if scale.any():  # experts and linear merges need no factors
        left, right = factors.components(name, device)
        matrix = tensor.view(as_matrix(vectors.shapes[name]))
        matrix.addmm_(left * scale.to(device), right)
    return tensor
