"""Spaces of multipliers on the singular components of every task vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import PositiveInt

from qdmerge.checkpoints._checkpoint import as_matrix
from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.options import checked
from qdmerge.spaces._factors import FactorFile, add_product, factor_file, leading
from qdmerge.spaces._linear import LinearSpace
from qdmerge.spaces._weights import Merger, WeightSpace

VERSION = 1
"""Part of the cache key: raise it whenever the factors' meaning or accuracy changes."""


@checked
class SpectralCoordinates(WeightSpace):
    """A space with multipliers on the singular components of every task vector.

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
        more: Bounds of further coordinates at the end, which are 0 for base and experts.

    Attributes:
        matrices: Names of the tensors with singular components, in order.

    Raises:
        CheckpointError: If a task vector is not finite.
        RunError: If the cache cannot be written.
        ConfigError: If the rank is less than 1.
    """

    def __init__(
        self,
        vectors: TaskVectors,
        rank: PositiveInt = 16,
        cache: Path | None = None,
        *,
        more: Sequence[tuple[float, float]] = (),
    ) -> None:
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
        # Starts of the tensors' blocks of (K, r + 1) coordinates. Tensors that no expert changes
        # have no coordinates; any block serves, none is used.
        starts = len(experts) * (np.cumsum(widths) - widths)
        found = zip(shapes, starts.tolist(), strict=True)
        self._start = dict.fromkeys(vectors.names, 0) | dict(found)
        self._factors = factorize(vectors, self.matrices, rank, cache)

    def spectral_coordinates(self, expert: str) -> tuple[np.ndarray, ...]:
        """Return the positions in ``x`` of one expert's multipliers, an integer array per matrix.

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
        """Return the share of an expert's squared Frobenius norm that the components hold.

        1.0 means that the kept rank captures all; also for an expert equal to the base.
        """
        k = self._index(expert)
        kept = sum(
            float(self._factors.read(f"{n}/singular")[k].double().square().sum())
            for n in self.matrices
        )
        total = sum(float(self._factors.read(f"{n}/norm2")[k]) for n in self.matrices)
        return min(1.0, kept / total) if total else 1.0

    def _index(self, expert: str) -> int:
        if expert not in self.experts:
            raise ValueError(f"expected one of the experts {list(self.experts)}; got {expert!r}")
        return self.experts.index(expert)

    def _block(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Return the coordinates of a tensor: ``(K, r + 1)``, the rest's last."""
        start, width = self._start[name], self._ranks.get(name, 0) + 1
        return x[start : start + len(self.experts) * width].view(len(self.experts), width)


class SpectralSpace(SpectralCoordinates, LinearSpace):
    """Experts, their linear merges, and moves along the experts' singular directions.

    Experts and linear merges are exact.

    For a matrix with task vectors ``tau_k``, whose leading ``r`` singular components are
    ``U_k diag(s_k) V_k^T``, and coordinates ``c_k`` (``r`` multipliers) and ``rho_k`` (one)::

        theta = theta_base + sum_k [ rho_k tau_k + U_k diag((c_k - rho_k) s_k) V_k^T ]

    so ``c_k`` scales the components and ``rho_k`` the exact rest, which is not stored.
    SVD mutation (CycleQD, arXiv 2410.14735, as in the released code) is noise on ``c_k``.

    Coordinates are those of :class:`SpectralCoordinates`.

    Args:
        vectors: The base and its experts.
        rank: Components kept of each expert's matrices, at least 1.
        cache: Folder that keeps factorizations; None for :func:`qdmerge.storage.cache_dir`.

    Attributes:
        matrices: Names of the tensors with singular components, in order.

    Raises:
        CheckpointError: If a task vector is not finite.
        RunError: If the cache cannot be written.
        ConfigError: If the rank is less than 1.
    """

    name: ClassVar[str] = "spectral"

    def _merger(self, x: torch.Tensor) -> Merger:
        def merged(name: str, device: torch.device | str) -> torch.Tensor:
            block = self._block(x, name)
            return spectral_merge(self.vectors, self._factors, name, block, device)

        return merged


def spectral_merge(
    vectors: TaskVectors,
    factors: FactorFile,
    name: str,
    block: torch.Tensor,
    device: torch.device | str,
) -> torch.Tensor:
    """Return a tensor of a :class:`SpectralSpace` from its coordinates ``block (K, r + 1)``."""
    rest = block[:, -1].contiguous()
    tensor = vectors.combine(name, rest, device)
    scale = (block[:, :-1] - rest[:, None]).reshape(-1)
    if scale.any() or (scale.requires_grad and len(scale)):  # linear merges need no factors
        left, right = factors.sides(name, device)
        return add_product(tensor, left * scale.to(device), right)
    return tensor


def kept_rank(vectors: TaskVectors, name: str, rank: int) -> int:
    """Return how many components to keep of each expert's task vector in one matrix."""
    return min(rank, max(vectors.rank(expert, name) for expert in vectors.experts))


def factorize(
    vectors: TaskVectors, matrices: Sequence[str], rank: int, cache: Path | None = None
) -> FactorFile:
    """Return the r leading components per matrix and expert, float32 and padded with zeros, from a
    cache. ``left`` holds left vectors times singular values; ``norm2`` is of whole task vectors.
    """
    experts = len(vectors.experts)

    def shapes(name: str) -> dict[str, tuple[int, ...]]:
        rows, columns = as_matrix(vectors.shapes[name])
        r = kept_rank(vectors, name, rank)
        return {
            "left": (rows, experts * r),
            "right": (experts * r, columns),
            "singular": (experts, r),
            "norm2": (experts,),
        }

    def compute(name: str) -> dict[str, torch.Tensor]:
        return _components(vectors, name, kept_rank(vectors, name, rank))

    return factor_file(f"{rank} {VERSION}", vectors, matrices, shapes, compute, cache)


def _components(vectors: TaskVectors, name: str, r: int) -> dict[str, torch.Tensor]:
    experts, (rows, columns) = len(vectors.experts), as_matrix(vectors.shapes[name])
    left, right = torch.zeros(rows, experts, r), torch.zeros(experts, r, columns)
    singular, norm2 = torch.zeros(experts, r), torch.zeros(experts)
    for k, expert in enumerate(vectors.experts):
        if vectors.rank(expert, name):
            u, s, vt, norm2[k] = leading(vectors, expert, name, r)
            n = len(s)
            left[:, k, :n], right[k, :n], singular[k, :n] = u * s, vt, s
    return {
        "left": left.reshape(rows, -1),
        "right": right.reshape(-1, columns),
        "singular": singular,
        "norm2": norm2,
    }
