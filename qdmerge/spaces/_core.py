"""Small cores per matrix, between bases that all experts share."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import PositiveInt

from qdmerge.checkpoints._checkpoint import as_matrix
from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.options import checked
from qdmerge.spaces._factors import FactorFile, add_product, factor_file, leading
from qdmerge.spaces._linear import LinearSpace
from qdmerge.spaces._weights import Merger

VERSION = 1
"""Part of the cache key: raise it whenever the factors' meaning or accuracy changes."""


@dataclass(frozen=True)
class _Block:
    """Coordinates of one tensor: a core ``(p, q)`` row by row, then some experts' weights."""

    start: int
    p: int
    q: int
    weighted: tuple[int, ...]

    @property
    def core(self) -> slice:
        return slice(self.start, self.start + self.p * self.q)

    @property
    def weights(self) -> slice:
        return slice(self.core.stop, self.core.stop + len(self.weighted))


@checked
class CoreSpace(LinearSpace):
    """Experts and their linear merges exactly, and every move within the experts' subspaces.

    Per matrix, ``P`` and ``Q`` are orthonormal bases of all experts' leading left and right
    singular vectors, and ``C_k = P^T tau_k Q`` are the experts' cores. With coordinates ``C``, a
    core, and one ``rho_k`` for every expert that its core does not fully capture::

        theta = theta_base + sum_k rho_k tau_k + P (C - sum_k rho_k C_k) Q^T

    where the sums are over these experts. A LoRA adapter of no higher rank than ``rank`` is its
    core (``tau_k = P C_k Q^T``) and has no ``rho_k``; the exact rest of a full fine-tune is not
    stored. The SVD of a model's own task vector is that of its small core: with
    :class:`~qdmerge.operators.ChildSVDMutation`, the paper's mutation (arXiv 2410.14735, section
    3.2).

    Coordinates follow the base's tensors in order. A tensor of two or more dimensions is a matrix,
    its first dimension by all others, as in :class:`SpectralSpace`; it has ``p x q`` coordinates,
    row by row, then the ``rho_k``. ``p`` and ``q`` are the sum of the ranks kept of all experts,
    but no more than the matrix's sides. A tensor of one or no dimension has one coordinate per
    expert. Tensors that no expert can change have none.

    Args:
        vectors: The base and its experts.
        rank: Components kept of each expert's matrices, at least 1.
        cache: Folder that keeps factorizations; None for :func:`qdmerge.storage.cache_dir`.

    Attributes:
        matrices: Names of the tensors with cores, in order.

    Raises:
        CheckpointError: If a task vector is not finite.
        RunError: If the cache cannot be written.
        ConfigError: If the rank is less than 1.
    """

    name: ClassVar[str] = "core"

    def __init__(
        self, vectors: TaskVectors, rank: PositiveInt = 16, cache: Path | None = None
    ) -> None:
        self.rank = rank
        changed = [name for name in vectors.names if vectors.is_changed(name)]
        self.matrices = tuple(name for name in changed if len(vectors.shapes[name]) >= 2)
        self._factors = core_factors(vectors, self.matrices, rank, cache)
        self._blocks: dict[str, _Block] = {}
        everyone, dim = tuple(range(len(vectors.experts))), 0
        for name in changed:
            block = _Block(dim, 0, 0, everyone)
            if name in self.matrices:
                p, q = core_shape(vectors, name, rank)
                whole = (p, q) == as_matrix(vectors.shapes[name])
                ranks = [0 if whole else vectors.rank(k, name) for k in vectors.experts]
                block = _Block(dim, p, q, tuple(k for k in everyone if ranks[k] > rank))
            self._blocks[name] = block
            dim = block.weights.stop
        seeds = np.zeros((len(everyone), dim), dtype=np.float32)
        for name, block in self._blocks.items():
            if name in self.matrices:
                seeds[:, block.core] = (
                    self._factors.read(f"{name}/cores").flatten(start_dim=1).numpy()
                )
            seeds[block.weighted, range(block.weights.start, block.weights.stop)] = 1
        super().__init__(vectors, seeds)

    @functools.cached_property
    def units(self) -> np.ndarray:
        """1 for an expert's weight; for a core, the root mean square of the experts' cores."""
        units = np.ones(self.dim, np.float32)
        cores = np.stack([self.seeds[name] for name in self.experts])
        for positions in self.core_coordinates():
            units[positions] = np.sqrt(np.mean(np.square(cores[:, positions], dtype=np.float64)))
        return units

    def core_coordinates(self) -> tuple[np.ndarray, ...]:
        """Return the positions in ``x`` of the cores: an integer array ``(p, q)`` per matrix.

        The arrays follow :attr:`matrices`.
        """
        blocks = (self._blocks[name] for name in self.matrices)
        return tuple(np.arange(b.core.start, b.core.stop).reshape(b.p, b.q) for b in blocks)

    def cores(self, x: npt.ArrayLike) -> dict[str, np.ndarray]:
        """Return the cores of a solution by the matrices' names, each ``(p, q)``.

        Raises:
            ValueError: If ``x`` is no solution of this space.
        """
        vector = self.check(x)
        pairs = zip(self.matrices, self.core_coordinates(), strict=True)
        return {name: vector[positions] for name, positions in pairs}

    def _merger(self, x: torch.Tensor) -> Merger:
        experts = len(self.experts)

        def merged(name: str, device: torch.device | str) -> torch.Tensor:
            weights = torch.zeros(experts)
            block = self._blocks.get(name)
            if block is None:
                return self.vectors.combine(name, weights, device)
            if block.weighted:
                weights[list(block.weighted)] = x[block.weights]
            tensor = self.vectors.combine(name, weights, device)
            if not block.p:  # no matrix
                return tensor
            core = x[block.core].view(block.p, block.q)
            if block.weighted:
                core = core - torch.tensordot(weights, self._factors.read(f"{name}/cores"), dims=1)
            if core.requires_grad or core.any():  # experts that are no products need no factors
                left, right = self._factors.sides(name, device)
                return add_product(tensor, left @ core.to(device), right)
            return tensor

        return merged


def core_shape(vectors: TaskVectors, name: str, rank: int) -> tuple[int, int]:
    """Return the sides ``(p, q)`` of a matrix's core, with ``rank`` components of each expert."""
    kept = sum(min(rank, vectors.rank(expert, name)) for expert in vectors.experts)
    rows, columns = as_matrix(vectors.shapes[name])
    return min(rows, kept), min(columns, kept)


def core_factors(
    vectors: TaskVectors, matrices: Sequence[str], rank: int, cache: Path | None = None
) -> FactorFile:
    """Return orthonormal bases P ``left`` and Q^T ``right`` of all experts' leading singular
    vectors, and ``cores`` ``P^T tau_k Q``, ``(K, p, q)``, of each matrix; float32, from a cache.
    """

    def shapes(name: str) -> dict[str, tuple[int, ...]]:
        rows, columns = as_matrix(vectors.shapes[name])
        p, q = core_shape(vectors, name, rank)
        return {"left": (rows, p), "right": (q, columns), "cores": (len(vectors.experts), p, q)}

    def compute(name: str) -> dict[str, torch.Tensor]:
        changing = [expert for expert in vectors.experts if vectors.rank(expert, name)]
        found = [leading(vectors, expert, name, rank) for expert in changing]
        p = torch.linalg.qr(torch.cat([part.u for part in found], dim=1)).Q
        q = torch.linalg.qr(torch.cat([part.vt for part in found], dim=0).T).Q
        cores = [_core(vectors, expert, name, p, q) for expert in vectors.experts]
        return {"left": p, "right": q.T, "cores": torch.stack(cores)}

    return factor_file(f"core {rank} {VERSION}", vectors, matrices, shapes, compute, cache)


def _core(
    vectors: TaskVectors, expert: str, name: str, p: torch.Tensor, q: torch.Tensor
) -> torch.Tensor:
    if not vectors.rank(expert, name):
        return torch.zeros(p.shape[1], q.shape[1])
    factors = vectors.factors(expert, name)
    if factors is not None:
        return (p.T @ factors[0]) @ (factors[1] @ q)
    return p.T @ vectors.delta(expert, name).reshape(as_matrix(vectors.shapes[name])) @ q
