"""Leading singular components of every task vector's matrices, kept on disk by content."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from qdmerge.cache import cache_dir
from qdmerge.errors import CheckpointError
from qdmerge.spaces._checkpoint import Checkpoint
from qdmerge.spaces._task_vectors import TaskVectors

#: Part of the cache key: raise it whenever the factors' meaning or accuracy changes.
VERSION = 1
_POWER_ITERATIONS = 4


class Factors:
    """Factors of all matrices, in a safetensors file. Read with :func:`factorize`.

    Per matrix of shape ``(m, n)`` viewed in two dimensions, with ``r`` components for each of
    ``K`` experts, all float32:

    - ``left``, ``(m, K r)``: left singular vectors times singular values, expert after expert;
    - ``right``, ``(K r, n)``: right singular vectors;
    - ``singular``, ``(K, r)``: singular values, descending;
    - ``norm2``, ``(K,)``: squared Frobenius norms of the whole task vectors.
    """

    def __init__(self, file: Path, keep: bool) -> None:
        self._checkpoint = Checkpoint.open(file)
        self._keep = keep
        self._kept: dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]] = {}

    def components(
        self, name: str, device: torch.device | str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``left`` and ``right`` of one matrix."""
        key = (name, str(device))
        found = self._kept.get(key)
        if found is None:
            read = self._checkpoint.read
            found = read(f"{name}/left").to(device), read(f"{name}/right").to(device)
            if self._keep:
                self._kept[key] = found = found[0].clone(), found[1].clone()
        return found

    def singular(self, name: str) -> torch.Tensor:
        """Singular values of one matrix, shape ``(K, r)``."""
        return self._checkpoint.read(f"{name}/singular")

    def norm2(self, name: str) -> torch.Tensor:
        """Squared Frobenius norms of one matrix's task vectors, shape ``(K,)``."""
        return self._checkpoint.read(f"{name}/norm2")

    def fits(self, shapes: dict[str, tuple[int, ...]]) -> bool:
        """Whether the file holds exactly these tensors."""
        return {n: t.shape for n, t in self._checkpoint.tensors.items()} == shapes


def factorize(
    vectors: TaskVectors, matrices: Sequence[str], rank: int, cache: Path | None = None
) -> Factors:
    """Return the leading components of the named matrices, computed only once per content.

    The file is ``<cache>/factors/<key>.safetensors``; a damaged one is rebuilt.

    Raises:
        CheckpointError: If a task vector is not finite, or the cache cannot be written.
    """
    key = hashlib.sha256(f"{vectors.fingerprint} {rank} {VERSION}".encode()).hexdigest()[:32]
    file = (cache_dir() if cache is None else Path(cache)) / "factors" / f"{key}.safetensors"
    expected = _expected_shapes(vectors, matrices, rank)
    with contextlib.suppress(CheckpointError):
        found = Factors(file, keep=vectors.resident)
        if found.fits(expected):
            return found
    computed: dict[str, torch.Tensor] = {}
    for name in matrices:
        computed.update(_factorize_matrix(vectors, name, rank))
    _save(computed, file)
    return Factors(file, keep=vectors.resident)


def kept_rank(shape: tuple[int, ...], rank: int) -> int:
    """Components kept of a tensor of this shape, viewed as ``(out, rest)``."""
    return min(rank, *as_matrix(shape))


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """The two-dimensional view of a shape: ``(out, rest)``; of kernels ``(out, in*kh*kw)``."""
    return shape[0], math.prod(shape[1:])


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
    generator = torch.Generator().manual_seed(VERSION)
    probe = torch.randn(matrix.shape[1], width, generator=generator)
    basis = torch.linalg.qr(matrix @ probe).Q
    for _ in range(_POWER_ITERATIONS):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis).Q).Q
    u, s, vt = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    return basis @ u[:, :rank], s[:rank], vt[:rank]


def _expected_shapes(
    vectors: TaskVectors, matrices: Sequence[str], rank: int
) -> dict[str, tuple[int, ...]]:
    experts = len(vectors.experts)
    shapes: dict[str, tuple[int, ...]] = {}
    for name in matrices:
        rows, columns = as_matrix(vectors.shapes[name])
        r = kept_rank(vectors.shapes[name], rank)
        shapes[f"{name}/left"] = (rows, experts * r)
        shapes[f"{name}/right"] = (experts * r, columns)
        shapes[f"{name}/singular"] = (experts, r)
        shapes[f"{name}/norm2"] = (experts,)
    return shapes


def _factorize_matrix(vectors: TaskVectors, name: str, rank: int) -> dict[str, torch.Tensor]:
    left, right, singular, norm2 = [], [], [], []
    for expert in vectors.experts:
        matrix = vectors.delta(expert, name).reshape(as_matrix(vectors.shapes[name]))
        if not torch.isfinite(matrix).all():
            raise CheckpointError(f"expert {expert!r} or the base: {name} holds NaN or infinity")
        u, s, vt = truncated_svd(matrix, kept_rank(vectors.shapes[name], rank))
        left.append(u * s)
        right.append(vt)
        singular.append(s)
        norm2.append(matrix.double().square().sum().float())
    return {
        f"{name}/left": torch.cat(left, dim=1).contiguous(),
        f"{name}/right": torch.cat(right, dim=0).contiguous(),
        f"{name}/singular": torch.stack(singular),
        f"{name}/norm2": torch.stack(norm2),
    }


def _save(tensors: dict[str, torch.Tensor], file: Path) -> None:
    """Write the file so that it is either complete or not there."""
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".tmp")
        os.close(handle)
        save_file(tensors, temporary)
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot keep the factorization ({error.strerror or error}); "
            "name a writable folder in QDMERGE_CACHE"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
