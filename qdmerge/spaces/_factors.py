"""Singular value decompositions of task vectors, computed once for each set of models."""

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


class Components(NamedTuple):
    """``U (m, r)``, ``s (r,)`` descending, ``V^T (r, n)``; the squared norm of all; float32."""

    u: torch.Tensor
    s: torch.Tensor
    vt: torch.Tensor
    norm2: torch.Tensor


def kept_rank(vectors: TaskVectors, name: str, rank: int) -> int:
    """Components kept of each expert's task vector in one matrix: no more than any of them has."""
    return min(rank, max(vectors.rank(expert, name) for expert in vectors.experts))


def leading(vectors: TaskVectors, expert: str, name: str, rank: int) -> Components:
    """The leading components of one expert's task vector in one matrix.

    At most ``rank`` of them, fewer if the task vector has a lower rank. Exact from the factors of
    an adapter (without forming their product), else see :func:`truncated_svd`.

    Raises:
        CheckpointError: If the task vector is not finite.
    """
    rank = min(rank, vectors.rank(expert, name))
    factors = vectors.factors(expert, name)
    whole = [vectors.delta(expert, name)] if factors is None else factors
    if not all(part.isfinite().all() for part in whole):
        raise CheckpointError(f"expert {expert!r} or the base: {name} holds NaN or infinity")
    if factors is not None:
        u, s, vt = product_svd(*factors)
        return Components(u[:, :rank], s[:rank], vt[:rank], s.double().square().sum().float())
    matrix = whole[0].reshape(as_matrix(vectors.shapes[name]))
    norm2 = matrix.double().square().sum().float()
    return Components(*truncated_svd(matrix, rank), norm2)


def product_svd(
    left: torch.Tensor, right: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All singular components of ``left @ right``, from QR of each and the SVD of a small core."""
    p, first = torch.linalg.qr(left)
    q, second = torch.linalg.qr(right.T)
    u, s, vt = torch.linalg.svd(first @ second.T, full_matrices=False)
    return p @ u, s, vt @ q.T


def truncated_svd(
    matrix: torch.Tensor, rank: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Leading ``rank`` singular components ``U (m, r), s (r,), V^T (r, n)``; deterministic.

    Randomized range finder with power iterations (Halko, Martinsson, Tropp 2011, algorithms 4.4
    and 5.1), or the exact decomposition where that would be no smaller.
    """
    width = 2 * rank + 8  # generous: spectra of task vectors can be flat
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


class FactorFile:
    """Tensors of a safetensors file, kept in memory after their first use if they all fit.

    Args:
        file: The file.
        memory: Budget in bytes for keeping tensors.
    """

    def __init__(self, file: Path, memory: int) -> None:
        self._checkpoint = Checkpoint.open(file)
        tensors = self._checkpoint.tensors
        self.shapes = {name: info.shape for name, info in tensors.items()}
        self._keep = sum(info.nbytes for info in tensors.values()) <= memory
        self._kept: dict[tuple[str, str], torch.Tensor] = {}

    def read(self, name: str, device: torch.device | str = "cpu") -> torch.Tensor:
        """One tensor, which must not be changed."""
        key = (name, str(device))
        found = self._kept.get(key)
        if found is None:
            found = self._checkpoint.read(name).to(device)
            if self._keep:
                self._kept[key] = found = found.clone()
        return found


def factor_file(
    key: str,
    vectors: TaskVectors,
    matrices: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    compute: Callable[[str], Mapping[str, torch.Tensor]],
    cache: Path | None,
) -> FactorFile:
    """The factors of all matrices, read from the cache or computed and put there.

    The file is ``<cache>/factors/<hash>.safetensors``; a damaged one is rebuilt.

    Args:
        key: What they are, their rank and version; with the models' fingerprint, their identity.
        vectors: The models.
        matrices: Names of the matrices.
        shapes: Names and shapes of all tensors that the file must hold.
        compute: From the name of a matrix to its tensors.
        cache: Folder of the cache; None for :func:`qdmerge.storage.cache_dir`.

    Raises:
        CheckpointError: If the cache cannot be written.
    """

    def whole(file: Path) -> bool:
        try:
            return FactorFile(file, vectors.memory).shapes == shapes
        except CheckpointError:
            return False

    def write(file: Path) -> None:
        tensors = {n: t.contiguous() for matrix in matrices for n, t in compute(matrix).items()}
        save_file(tensors, file)

    name = hashlib.sha256(f"{vectors.fingerprint} {key}".encode()).hexdigest()[:32]
    file = (cache_dir() if cache is None else Path(cache)) / "factors" / f"{name}.safetensors"
    return FactorFile(written_once(file, write, whole, "Factorizations"), vectors.memory)


#: Part of the cache key: raise it whenever the factors' meaning or accuracy changes.
VERSION = 1


class Factors:
    """Factors of all matrices. Made with :func:`factorize`.

    Per matrix of shape ``(m, n)`` viewed in two dimensions, with ``r`` components for each of
    ``K`` experts, all float32, zeros where an expert has fewer:

    - ``left``, ``(m, K r)``: left singular vectors times singular values, expert after expert;
    - ``right``, ``(K r, n)``: right singular vectors;
    - ``singular``, ``(K, r)``: singular values, descending;
    - ``norm2``, ``(K,)``: squared Frobenius norms of the whole task vectors.
    """

    def __init__(self, file: FactorFile) -> None:
        self._file = file

    def components(
        self, name: str, device: torch.device | str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``left`` and ``right`` of one matrix."""
        return self._file.read(f"{name}/left", device), self._file.read(f"{name}/right", device)

    def singular(self, name: str) -> torch.Tensor:
        """Singular values of one matrix, shape ``(K, r)``."""
        return self._file.read(f"{name}/singular")

    def norm2(self, name: str) -> torch.Tensor:
        """Squared Frobenius norms of one matrix's task vectors, shape ``(K,)``."""
        return self._file.read(f"{name}/norm2")


def factorize(
    vectors: TaskVectors, matrices: Sequence[str], rank: int, cache: Path | None = None
) -> Factors:
    """Return the leading components of the named matrices, computed only once per content.

    Raises:
        CheckpointError: If a task vector is not finite, or the cache cannot be written.
    """
    shapes = _expected_shapes(vectors, matrices, rank)

    def compute(name: str) -> dict[str, torch.Tensor]:
        return _factorize_matrix(vectors, name, rank)

    return Factors(factor_file(f"{rank} {VERSION}", vectors, matrices, shapes, compute, cache))


def _expected_shapes(
    vectors: TaskVectors, matrices: Sequence[str], rank: int
) -> dict[str, tuple[int, ...]]:
    experts = len(vectors.experts)
    shapes: dict[str, tuple[int, ...]] = {}
    for name in matrices:
        rows, columns = as_matrix(vectors.shapes[name])
        r = kept_rank(vectors, name, rank)
        shapes[f"{name}/left"] = (rows, experts * r)
        shapes[f"{name}/right"] = (experts * r, columns)
        shapes[f"{name}/singular"] = (experts, r)
        shapes[f"{name}/norm2"] = (experts,)
    return shapes


def _factorize_matrix(vectors: TaskVectors, name: str, rank: int) -> dict[str, torch.Tensor]:
    experts, r = len(vectors.experts), kept_rank(vectors, name, rank)
    rows, columns = as_matrix(vectors.shapes[name])
    left, right = torch.zeros(rows, experts, r), torch.zeros(experts, r, columns)
    singular, norm2 = torch.zeros(experts, r), torch.zeros(experts)
    for k, expert in enumerate(vectors.experts):
        if vectors.rank(expert, name):
            u, s, vt, norm2[k] = leading(vectors, expert, name, r)
            n = len(s)
            left[:, k, :n], right[k, :n], singular[k, :n] = u * s, vt, s
    return {
        f"{name}/left": left.reshape(rows, -1),
        f"{name}/right": right.reshape(-1, columns),
        f"{name}/singular": singular,
        f"{name}/norm2": norm2,
    }
