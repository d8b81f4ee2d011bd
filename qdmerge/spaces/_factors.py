"""Singular components of task vectors, and the cached file that factors are kept in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file

from qdmerge.checkpoints._checkpoint import Checkpoint, as_matrix
from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.errors import CheckpointError
from qdmerge.storage import cache_dir, written_once

_SEED = 1
_POWER_ITERATIONS = 4
_OVERSAMPLING = 8


class Components(NamedTuple):
    """``U (m, r)``, ``s (r,)`` descending, ``V^T (r, n)``; the squared norm of all; float32."""

    u: torch.Tensor
    s: torch.Tensor
    vt: torch.Tensor
    norm2: torch.Tensor


def leading(vectors: TaskVectors, expert: str, name: str, rank: int) -> Components:
    """Return at most ``rank`` leading components of one expert's task vector in one matrix; exact
    from the factors of an adapter (without forming their product), else see :func:`truncated_svd`.
    """
    rank = min(rank, vectors.rank(expert, name))
    factors = vectors.factors(expert, name)
    if factors is not None:
        u, s, vt = product_svd(*factors)
        return Components(u[:, :rank], s[:rank], vt[:rank], s.double().square().sum().float())
    matrix = vectors.delta(expert, name).reshape(as_matrix(vectors.shapes[name]))
    norm2 = matrix.double().square().sum().float()
    return Components(*truncated_svd(matrix, rank), norm2)


def product_svd(
    left: torch.Tensor, right: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return all singular components of ``left @ right``, from the SVD of a small core."""
    p, first = torch.linalg.qr(left)
    q, second = torch.linalg.qr(right.T)
    u, s, vt = torch.linalg.svd(first @ second.T, full_matrices=False)
    return p @ u, s, vt @ q.T


def truncated_svd(
    matrix: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the leading components ``U (m, r), s (r,), V^T (r, n)``; deterministic. By randomized
    range finder (Halko, Martinsson, Tropp 2011, 4.4 and 5.1), or exact if that is no larger.
    """
    width = 2 * rank + _OVERSAMPLING  # generous: spectra of task vectors can be flat
    if width >= min(matrix.shape):
        u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
        return u[:, :rank], s[:rank], vt[:rank]
    generator = torch.Generator().manual_seed(_SEED)
    probe = torch.randn(matrix.shape[1], width, generator=generator)
    basis = torch.linalg.qr(matrix @ probe).Q
    for _ in range(_POWER_ITERATIONS):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis).Q).Q
    u, s, vt = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    return basis @ u[:, :rank], s[:rank], vt[:rank]


def add_product(tensor: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return a tensor, as a matrix, plus ``left @ right``; in place unless differentiated."""
    matrix = tensor.view(as_matrix(tensor.shape))
    add = torch.addmm if left.requires_grad else torch.Tensor.addmm_
    return add(matrix, left, right).view_as(tensor)


class FactorFile:
    """Tensors of a safetensors file, kept after their first use if all fit ``memory`` bytes."""

    def __init__(self, file: Path, memory: int) -> None:
        self._checkpoint = Checkpoint.open(file)
        tensors = self._checkpoint.tensors
        self.shapes = {name: info.shape for name, info in tensors.items()}
        self._keep = sum(info.nbytes for info in tensors.values()) <= memory
        self._kept: dict[tuple[str, str], torch.Tensor] = {}

    def read(self, name: str, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return one tensor, which must not be changed."""
        key = (name, str(device))
        found = self._kept.get(key)
        if found is None:
            found = self._checkpoint.read(name).to(device)
            if self._keep:
                self._kept[key] = found = found.clone()
        return found

    def sides(self, name: str, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``left`` and ``right`` of one matrix."""
        return self.read(f"{name}/left", device), self.read(f"{name}/right", device)


def factor_file(
    key: str,
    vectors: TaskVectors,
    matrices: Sequence[str],
    shapes: Callable[[str], Mapping[str, tuple[int, ...]]],
    compute: Callable[[str], Mapping[str, torch.Tensor]],
    cache: Path | None,
) -> FactorFile:
    """Return the factors of all matrices, computed once, in ``<cache>/factors/<hash>.safetensors``
    as tensors ``MATRIX/FACTOR``. ``key`` holds what they are, their rank and version.
    """
    expected = {f"{m}/{part}": shape for m in matrices for part, shape in shapes(m).items()}

    def whole(file: Path) -> bool:
        try:
            return FactorFile(file, vectors.memory).shapes == expected
        except CheckpointError:
            return False

    def write(file: Path) -> None:
        found = {
            f"{matrix}/{part}": tensor.contiguous()
            for matrix in matrices
            for part, tensor in compute(matrix).items()
        }
        save_file(found, file)

    name = hashlib.sha256(f"{vectors.fingerprint} {key}".encode()).hexdigest()[:32]
    file = (cache_dir() if cache is None else Path(cache)) / "factors" / f"{name}.safetensors"
    return FactorFile(written_once(file, write, whole, "Factorizations"), vectors.memory)
