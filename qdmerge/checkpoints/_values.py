"""Values of weight files: NaN and infinity, found without torch."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qdmerge.checkpoints._checkpoint import TensorInfo, listing, read_header
from qdmerge.errors import CheckpointError

_EXPONENTS = {
    "F32": ("<u4", 0x7F800000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
"""Unsigned integers of a type's width, and the bits that are all set in NaN and infinity."""

_LARGEST = float(np.finfo(np.float32).max)

_BLOCK = 2**24


def not_finite(files: Collection[Path], names: Collection[str]) -> list[str]:
    """Return a problem if any of these tensors holds NaN or infinity, else nothing.

    A file is read once in a process unless its size or modification time changes.

    Raises:
        CheckpointError: A file was removed or damaged.
    """
    found = [name for file in files for name in _odd(file) if name in names]
    return [f"holds NaN or infinity: {listing(found)}"] if found else []


def _odd(file: Path) -> tuple[str, ...]:
    try:
        state = file.stat()
        return _cached_odd(file.resolve(), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None


@functools.lru_cache(maxsize=4096)
def _cached_odd(file: Path, size: int, _mtime_ns: int) -> tuple[str, ...]:
    infos = read_header(file)
    odd, position = [], size - sum(info.nbytes for info in infos.values())
    with file.open("rb") as stream:
        for name, info in infos.items():
            stream.seek(position)
            position += info.nbytes
            if info.floating and _holds_odd(stream, info):
                odd.append(name)
    return tuple(odd)


def _holds_odd(stream: BinaryIO, info: TensorInfo) -> bool:
    kind, bits = _EXPONENTS.get(info.dtype, ("<f8", 0))
    for begin in range(0, info.nbytes, _BLOCK):
        block = np.frombuffer(stream.read(min(_BLOCK, info.nbytes - begin)), kind)
        # Merging is done in float32.
        fits = (block & block.dtype.type(bits)) != bits if bits else np.abs(block) <= _LARGEST
        if not fits.all():
            return True
    return False
