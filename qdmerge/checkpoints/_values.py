"""Values of weight files: NaN and infinity, found without torch."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qdmerge.checkpoints._checkpoint import TensorInfo, listing, read_header
from qdmerge.errors import CheckpointError

_BITS = {
    "F32": ("<u4", {False: 0x7F800000, True: 0x477FF000}),
    "F16": ("<u2", {False: 0x7C00, True: 0x7C00}),
    "BF16": ("<u2", {False: 0x7F80, True: 0x4780}),
}
"""Unsigned integers of a type's width, and the least bits, without the sign, of what is too large:
NaN and infinity, or what float16 rounds to infinity."""

_LARGEST = {False: float(np.finfo(np.float32).max), True: 65519.99}
"""Merging is done in float32."""

_BLOCK = 2**24


def not_finite(files: Collection[Path], names: Collection[str], half: bool = False) -> list[str]:
    """Return the problems of tensors that hold NaN or infinity; none if there are none.

    A file is read once in a process unless its size or modification time changes.

    Args:
        files: The files.
        names: The tensors that count.
        half: Whether values that float16 cannot hold are a problem too.

    Raises:
        CheckpointError: A file was removed or damaged.
    """
    found = [name for file in files for name in _odd(file, False) if name in names]
    if found:
        return [f"holds NaN or infinity: {listing(found)}"]
    large = [name for file in files for name in _odd(file, True) if name in names] if half else []
    if not large:
        return []
    return [
        f"holds values that float16, the base's type, cannot: {listing(large)}; save the base in "
        "bfloat16 or float32"
    ]


def _odd(file: Path, half: bool) -> tuple[str, ...]:
    try:
        state = file.stat()
        return _cached_odd(file.resolve(), state.st_size, state.st_mtime_ns, half)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None


@functools.lru_cache(maxsize=4096)
def _cached_odd(file: Path, size: int, _mtime_ns: int, half: bool) -> tuple[str, ...]:
    infos = read_header(file)
    odd, position = [], size - sum(info.nbytes for info in infos.values())
    with file.open("rb") as stream:
        for name, info in infos.items():
            stream.seek(position)
            position += info.nbytes
            if info.floating and _holds_odd(stream, info, half):
                odd.append(name)
    return tuple(odd)


def _holds_odd(stream: BinaryIO, info: TensorInfo, half: bool) -> bool:
    kind, least = _BITS.get(info.dtype, ("<f8", None))
    for begin in range(0, info.nbytes, _BLOCK):
        block = np.frombuffer(stream.read(min(_BLOCK, info.nbytes - begin)), kind)
        if least is None:
            fits = np.abs(block) <= _LARGEST[half]
        else:
            fits = (block & block.dtype.type(np.iinfo(block.dtype).max >> 1)) < least[half]
        if not fits.all():
            return True
    return False
