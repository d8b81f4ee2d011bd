"""Checkpoints: safetensors files and shards, read a tensor at a time, and their digests."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from qdmerge.errors import CheckpointError
from qdmerge.storage import file_digest, parse_json, read_json

if TYPE_CHECKING:
    import torch

    from qdmerge.checkpoints._parts import Layout

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
"""Floating-point types that can be merged."""

_BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "BOOL": 1, "C64": 8},
    **{f"{sign}{bits}": bits // 8 for sign in "IU" for bits in (8, 16, 32, 64)},
}
_MAX_HEADER = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's entry in a header: its file, dtype (``"BF16"``), shape and size in bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    nbytes: int

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def floating(self) -> bool:
        """Whether the tensor takes part in merging."""
        return self.dtype in FLOATS


@dataclass(frozen=True)
class Checkpoint:
    """One model on disk: a safetensors file, or a folder with one or with shards and an index.

    Attributes:
        path: The file or folder as the user named it.
        files: The weight files, in order.
        tensors: Every tensor by name, file after file, in the order the files hold them; with a
            layout, every tensor of the live model, without those that are tied to another.
        sharded: Whether an index belongs to the files.
        layout: How the files' tensors become those of a live model; None if they are the same.
        in_files: Every tensor of the files by name, where there is a layout.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorInfo]
    sharded: bool
    layout: Layout | None = None
    in_files: Mapping[str, TensorInfo] | None = None

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Read the headers of the checkpoint at ``path``; no tensor is loaded.

        Raises:
            CheckpointError: If it is missing, incomplete, truncated or malformed.
        """
        path = Path(path)
        files, expected = _find_files(path)
        tensors: dict[str, TensorInfo] = {}
        for file in files:
            for name, info in read_header(file).items():
                if name in tensors:
                    two = f"{tensors[name].file.name} and {file.name}"
                    raise CheckpointError(f"{path}: tensor {name} is in two files, {two}")
                tensors[name] = info
        if expected is not None and not expected <= set(tensors):
            lacking = sorted(expected - set(tensors))
            raise CheckpointError(
                f"{path}: {INDEX} lists tensors that no shard holds: {listing(lacking)}; a "
                "shard or the index is of another model"
            )
        return cls(path, files, tensors, sharded=expected is not None)

    def read(self, name: str) -> torch.Tensor:
        """Return one tensor, on the CPU and in its own dtype.

        Raises:
            CheckpointError: If the file was removed or damaged since its header was read.
        """
        if self.layout is None:
            return self.read_stored(name)
        return self.layout.live(self.layout.parts[name], self.read_stored)[name]

    @property
    def stored(self) -> Mapping[str, TensorInfo]:
        """Every tensor of the files by name."""
        return self.tensors if self.in_files is None else self.in_files

    @property
    def used(self) -> Collection[str]:
        """The tensors of the files that the model consists of."""
        return self.tensors if self.layout is None else self.layout.used

    def read_stored(self, name: str) -> torch.Tensor:
        """Return a tensor of the files; see :meth:`read`."""
        place = self.stored[name].file
        try:
            # Reopened each time: a mapping kept open counts every page ever read as memory in use.
            with safe_open(str(place), framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{place}: {name} cannot be read any more ({error})") from None
        return tensor

    @property
    def folder(self) -> Path | None:
        """The folder with configuration and tokenizer; None for a bare file."""
        return self.path if self.path.is_dir() else None

    def config(self) -> dict[str, Any]:
        """Return the folder's ``config.json``; empty if there is none.

        Raises:
            CheckpointError: If it is no JSON object.
        """
        file = None if self.folder is None else self.folder / "config.json"
        return read_json(file, CheckpointError) if file is not None and file.is_file() else {}


def read_header(file: Path) -> dict[str, TensorInfo]:
    """Parse the header of one safetensors file, tensors in the order of their data."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER):
                raise CheckpointError(f"{file}: truncated, or not a safetensors file")
            header = parse_json(stream.read(length))
        header.pop("__metadata__", None)
        entries = sorted(header.items(), key=lambda entry: entry[1]["data_offsets"])
        infos, end = {}, 0
        for name, entry in entries:
            begin, stop = entry["data_offsets"]
            shape = tuple(map(int, entry["shape"]))
            infos[name] = info = TensorInfo(file, str(entry["dtype"]), shape, stop - begin)
            if begin != end or stop < begin or not _fits(info):
                raise CheckpointError(f"{file}: the header is damaged at tensor {name}")
            end = stop
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError):
        raise CheckpointError(f"{file}: the safetensors header is damaged") from None
    if size != 8 + length + end:
        state = "truncated" if size < 8 + length + end else "longer than its header says"
        raise CheckpointError(f"{file}: {state} ({size} bytes, expected {8 + length + end})")
    return infos


def listing(names: list[str], limit: int = 3) -> str:
    """Return the first few of many names, and how many there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, ... ({len(names)} in all)"


def findings(found: Mapping[str, list[str]]) -> list[str]:
    """Return a problem for each kind of finding with names, with the first few of them."""
    return [f"{what}: {listing(names)}" for what, names in found.items() if names]


def _fits(info: TensorInfo) -> bool:
    width = _BYTES.get(info.dtype)
    sane = min(info.shape, default=0) >= 0
    return sane and (width is None or info.nbytes == info.numel * width)


def _find_files(path: Path) -> tuple[tuple[Path, ...], set[str] | None]:
    """Return the weight files at ``path``, and the tensor names of the index, if any."""
    if path.is_file():
        return (path,), None
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such file or folder")
    if (path / SINGLE).is_file():
        return (path / SINGLE,), None
    if (path / INDEX).is_file():
        weight_map = read_json(path / INDEX, CheckpointError).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{path / INDEX}: holds no weight_map")
        shards = sorted({str(shard) for shard in weight_map.values()})
        missing = [shard for shard in shards if not os.path.isfile(path / shard)]  # of any name
        if missing:
            raise CheckpointError(f"{path}: shards are missing: {listing(missing)}")
        return tuple(path / shard for shard in shards), set(weight_map)
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return (found[0],), None
    if found:
        raise CheckpointError(
            f"{path}: {len(found)} safetensors files and no {INDEX}; "
            "name one file, or add the index"
        )
    if any(path.glob("*.bin")):
        raise CheckpointError(
            f"{path}: only pickled weights (.bin), which are not read because unpickling can run "
            "code; convert them: save_pretrained(..., safe_serialization=True)"
        )
    raise CheckpointError(f"{path}: no safetensors weights here (expected {SINGLE} or {INDEX})")


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of a model's weight files, in hex.

    Of a single file it is the file's own (``sha256sum model.safetensors``); of shards, that of
    their digests in order. An adapter's folder with a ``qdmerge.json`` that holds
    ``{"base": {"sha256": ...}}`` can only be merged on the base of this digest.

    Raises:
        CheckpointError: If there are no weights at ``path``, or they are damaged.
    """
    digests = [file_digest(file) for file in Checkpoint.open(Path(path)).files]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the shape viewed as a matrix: ``(out, rest)``; of kernels ``(out, in*kh*kw)``."""
    return shape[0], math.prod(shape[1:])
