"""Exports of merged models: whole checkpoints, or LoRA adapters on the base."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn.functional import pad

from qdmerge.checkpoints._adapter import (
    ADAPTER_WEIGHTS,
    PREFIX,
    RECORD,
    Adapter,
    LowRank,
)
from qdmerge.checkpoints._adapter_config import ADAPTER_CONFIG
from qdmerge.checkpoints._checkpoint import (
    INDEX,
    SINGLE,
    Checkpoint,
    TensorInfo,
    as_matrix,
    listing,
    weights_digest,
)
from qdmerge.checkpoints._task_vectors import DTYPES, TaskVectors
from qdmerge.errors import CheckpointError
from qdmerge.storage import new_folder, write_json

_COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".vocab", ".py")
"""Suffixes of what belongs to a model beside its weights, code of its own included."""

_NOT_COPIED = ("trainer_state.json", "all_results.json", "train_results.json", "eval_results.json")
"""The history of the base's training."""

_INHERITED = ("base_model_name_or_path", "revision")
"""Entries of the experts' configurations that also hold for their merge, if they agree."""

_KIND = ("task_type", "auto_mapping")
"""Entries for the kind of the base model; not from experts trained without its head."""


def write_checkpoint(base: Checkpoint, tensor: Callable[[str], torch.Tensor], path: Path) -> Path:
    """Write a model with the layout of ``base`` into the new folder ``path``.

    Args:
        base: Determines names, shards, key order, dtypes and shapes of the files, and what is
            copied beside them: other files, and tensors that are no part of the model.
        tensor: Returns a tensor of the model by its name in ``base``, on the CPU.
        path: A folder that does not exist yet, or is empty.

    Raises:
        CheckpointError: If ``path`` is taken or cannot be written, or a value is too large for
            the base's type.
    """
    with _export_folder(path) as folder:
        stored = _as_stored(base, tensor)
        for file in base.files:
            infos = {name: info for name, info in base.stored.items() if info.file == file}
            _write_file(folder / (file.name if base.sharded else SINGLE), infos, stored, base.used)
        if base.sharded:
            names = {name: info.file.name for name, info in base.stored.items()}
            size = sum(info.nbytes for info in base.stored.values())
            write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": names})
        if base.folder is not None:
            _copy_companions(base, folder)
    return path


def _as_stored(
    base: Checkpoint, tensor: Callable[[str], torch.Tensor]
) -> Callable[[str], torch.Tensor]:
    """Return a function from names in files to tensors, from one from names in the model."""
    layout = base.layout
    if layout is None:
        return tensor
    parts = {file: part for part in layout.parts.values() for file in part.files}
    members = {
        part.files: [name for name, other in layout.parts.items() if other == part]
        for part in parts.values()
    }
    made: dict[str, torch.Tensor] = {}

    def stored(name: str) -> torch.Tensor:
        if name not in parts:
            return base.read_stored(name)
        if name not in made:
            part = parts[name]
            live = {one: tensor(layout.aliases.get(one, one)) for one in members[part.files]}
            made.clear()
            made.update(layout.stored(part, live))
        return made.pop(name)

    return stored


@contextlib.contextmanager
def _export_folder(path: Path) -> Iterator[Path]:
    """Yield a :func:`new_folder`; raise a CheckpointError if it is taken or not writable."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise CheckpointError(f"{path}: already exists; choose a new folder")
    try:
        with new_folder(path) as folder:
            yield folder
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error})") from error


def _write_file(
    file: Path,
    infos: dict[str, TensorInfo],
    tensor: Callable[[str], torch.Tensor],
    merged: Collection[str],
) -> None:
    """Write tensors as one safetensors file; those of the model (``merged``) must be finite."""
    with file.open("wb") as stream:
        stream.write(_header(infos))
        for name, info in infos.items():
            value = tensor(name)
            if tuple(value.shape) != info.shape:
                raise ValueError(f"expected {name} {info.shape}, received {tuple(value.shape)}")
            value = value.to(DTYPES.get(info.dtype, value.dtype)).contiguous()
            if name in merged and info.floating and not value.isfinite().all():
                raise CheckpointError(
                    f"{name} is too large for {info.dtype}, the base's type; use a base in "
                    "bfloat16 or float32"
                )
            # Bytes of any dtype, also those numpy lacks; a scalar has to become a vector first.
            stream.write(value.reshape(-1).view(torch.uint8).numpy().data)
        stream.flush()
        os.fsync(stream.fileno())


def _header(infos: dict[str, TensorInfo]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, info in infos.items():
        begin, end = end, end + info.nbytes
        header[name] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts at a multiple of 8
    return len(text).to_bytes(8, "little") + text


def _copy_companions(base: Checkpoint, target: Path) -> None:
    assert base.folder is not None
    for file in sorted(base.folder.iterdir()):
        wanted = file.suffix in _COPIED and file.name not in _NOT_COPIED
        if wanted and file.is_file() and not file.name.endswith(".index.json"):
            shutil.copyfile(file, target / file.name)


def write_adapter(vectors: TaskVectors, merged: Callable[[str], torch.Tensor], path: Path) -> Path:
    """Write a LoRA adapter whose weights on the base are those that ``merged`` returns (float32,
    CPU): ``B = (merged - base) A^T`` with ``A`` an orthonormal basis of the experts' row space.
    """
    changes = _low_rank_changes(vectors)
    with _export_folder(path) as folder:
        pairs = {name: _product(vectors, name, merged(name)) for name in changes}
        rank = max(len(right) for _, right in pairs.values())
        tensors: dict[str, torch.Tensor] = {}
        for name, (left, right) in pairs.items():
            left, right = (
                pad(left, (0, rank - len(right))),
                pad(right, (0, 0, 0, rank - len(right))),
            )
            tensors |= _named(name, left, right, changes[name], vectors.shapes[name])
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        config = _config(vectors, changes, rank)
        write_json(folder / ADAPTER_CONFIG, config)
        record = {"base": {"sha256": weights_digest(vectors.checkpoint.path)}}
        write_json(folder / RECORD, record)
    return path


def _low_rank_changes(vectors: TaskVectors) -> dict[str, LowRank]:
    """Return what LoRA changes, by tensor: how its factors are named and turned."""
    whole = [name for name in vectors.experts if name not in vectors.adapters]
    problems = [f"whole checkpoints are among the experts: {listing(whole)}"] if whole else []
    changes: dict[str, LowRank] = {}
    for name, adapter in vectors.adapters.items():
        odd = [tensor for tensor, c in adapter.changes.items() if not isinstance(c, LowRank)]
        if odd:
            problems.append(f"expert {name!r} changes {listing(odd)} otherwise than by LoRA")
        if adapter.config.get("ensure_weight_tying"):
            problems.append(f"expert {name!r} adapts tied embeddings (ensure_weight_tying)")
        found = {t: c for t, c in adapter.changes.items() if isinstance(c, LowRank)}
        turned = [
            t for t, c in found.items() if changes.setdefault(t, c).transposed != c.transposed
        ]
        if turned:
            problems.append(f"expert {name!r} stores {listing(turned)} the other way round")
    if problems:
        raise CheckpointError(
            f"no LoRA adapter can hold the merged model: {'; '.join(problems)}. Export it as a "
            "whole checkpoint instead (leave --adapter out)"
        )
    return {name: changes[name] for name in vectors.names if name in changes}


def _product(
    vectors: TaskVectors, name: str, merged: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``merged - base`` as ``left @ right``, ``(m, R)`` and ``(R, n)``."""
    factors = [vectors.factors(expert, name) for expert in vectors.experts]
    rows = torch.cat([pair[1] for pair in factors if pair is not None])
    basis = torch.linalg.qr(rows.T).Q
    delta = (merged - vectors.base(name).float()).view(as_matrix(vectors.shapes[name]))
    return delta @ basis, basis.T


def _named(
    name: str, left: torch.Tensor, right: torch.Tensor, change: LowRank, shape: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    """Return the factors under peft's names and in its shapes."""
    module = PREFIX + name.removesuffix(".weight")
    if change.embedding:
        found = {f"{module}.lora_embedding_A": left.T, f"{module}.lora_embedding_B": right.T}
    elif change.transposed:
        found = {f"{module}.lora_A.weight": left.T, f"{module}.lora_B.weight": right.T}
    else:
        kernel = shape[2:]  # a convolution's B has one of size 1
        found = {
            f"{module}.lora_A.weight": right.reshape(len(right), shape[1], *kernel),
            f"{module}.lora_B.weight": left.reshape(*left.shape, *(1 for _ in kernel)),
        }
    return {key: tensor.contiguous() for key, tensor in found.items()}


def _config(vectors: TaskVectors, changes: Mapping[str, LowRank], rank: int) -> Mapping[str, Any]:
    configs = [adapter.config for adapter in vectors.adapters.values()]
    whole = [a.config for a in vectors.adapters.values() if not _headless(a)]
    return {
        "base_model_name_or_path": str(vectors.checkpoint.path),
        **_agreed(configs, _INHERITED),
        **_agreed(whole, _KIND),
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,  # a scale of 1
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(c.transposed and not c.embedding for c in changes.values()),
        "target_modules": [name.removesuffix(".weight") for name in changes],
        "inference_mode": True,
    }


def _headless(adapter: Adapter) -> bool:
    """Return whether it was trained on the model without its head: shorter tensor names."""
    return any(
        isinstance(change, LowRank)
        and not change.a.startswith(f"{PREFIX}{name.removesuffix('.weight')}.lora_")
        for name, change in adapter.changes.items()
    )


def _agreed(configs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """Return the entries on which all configurations agree."""
    return {
        key: configs[0].get(key)
        for key in keys
        if configs and all(config.get(key) == configs[0].get(key) for config in configs)
    }
