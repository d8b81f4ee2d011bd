"""Solution vectors, kept once each by content hash."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from qdmerge.errors import RunError


def solution_id(x: np.ndarray) -> str:
    """Content hash of a ``(dim,)`` solution: 16 hexadecimal digits of its dtype and bytes."""
    digest = hashlib.sha256(x.dtype.str.encode())
    digest.update(np.ascontiguousarray(x).tobytes())
    return digest.hexdigest()[:16]


class SolutionStore:
    """A folder of solutions, ``<id>.npy``.

    Args:
        folder: The folder; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, x: np.ndarray) -> str:
        """Keeps a ``(dim,)`` solution durably; returns its id.

        Raises:
            RunError: It cannot be written (disk full, say).
        """
        identity = solution_id(x)
        path = self._folder / f"{identity}.npy"
        if path.exists():
            return identity
        try:
            self._folder.mkdir(exist_ok=True)
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.save(file, x)
                file.flush()
                os.fsync(file.fileno())
            part.rename(path)
        except OSError as error:
            raise RunError(
                f"cannot write {path}: {error.strerror or error}. Everything before is kept; "
                "make room, then resume the run"
            ) from error
        return identity

    def get(self, identity: str) -> np.ndarray:
        """The solution of an id.

        Raises:
            RunError: It is missing, or its content does not match its id.
        """
        path = self._folder / f"{identity}.npy"
        try:
            x: np.ndarray = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"solution {path} cannot be read: {error}") from error
        if solution_id(x) != identity:
            raise RunError(f"solution {path} is damaged: its content does not match its name")
        return x
