"""Writing a merge of LoRA adapters as one LoRA adapter, which peft loads onto the base."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn.functional import pad

from qdmerge.errors import CheckpointError
from qdmerge.spaces._adapter import ADAPTER_WEIGHTS, PREFIX, RECORD, Adapter, LowRank
from qdmerge.spaces._adapter_config import ADAPTER_CONFIG
from qdmerge.spaces._checkpoint import listing
from qdmerge.spaces._digest import weights_digest
from qdmerge.spaces._export import new_folder
from qdmerge.spaces._shapes import as_matrix
from qdmerge.spaces._task_vectors import TaskVectors

#: Entries of the experts' configurations that hold for their merge, where they agree.
_INHERITED = ("base_model_name_or_path", "revision")
#: And those that say what kind of model the base is; not from experts trained without its head.
_KIND = ("task_type", "auto_mapping")


def write_adapter(vectors: TaskVectors, merged: Callable[[str], torch.Tensor], path: Path) -> Path:
    """Write a LoRA adapter whose weights on the base are the merged ones.

    All task vectors of a matrix lie in the row space of the experts' factors side by side, so with
    an orthonormal basis ``A`` of it, ``B = (merged - base) A^T`` gives ``B A = merged - base``.

    Args:
        vectors: The base and its experts.
        merged: From the name of a tensor to the merged tensor, float32 on the CPU.
        path: A folder that does not exist yet, or is empty.

    Raises:
        CheckpointError: If no adapter can hold the merge, or ``path`` is taken or not writable.
    """
    changes = _low_rank_changes(vectors)
    with new_folder(path) as folder:
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
        config = _config(vectors, list(changes), rank)
        (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        record = {"base": {"sha256": weights_digest(vectors.checkpoint.path)}}
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return path


def _low_rank_changes(vectors: TaskVectors) -> dict[str, LowRank]:
    """What LoRA changes, by tensor: how its factors are named and turned."""
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
    """``merged - base`` as ``left @ right``, ``(m, R)`` and ``(R, n)``."""
    factors = [vectors.factors(expert, name) for expert in vectors.experts]
    rows = torch.cat([pair[1] for pair in factors if pair is not None])
    basis = torch.linalg.qr(rows.T).Q
    delta = (merged - vectors.base(name).float()).view(as_matrix(vectors.shapes[name]))
    return delta @ basis, basis.T


def _named(
    name: str, left: torch.Tensor, right: torch.Tensor, change: LowRank, shape: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    """The factors under peft's names and in its shapes."""
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


def _config(vectors: TaskVectors, names: list[str], rank: int) -> Mapping[str, Any]:
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
        "fan_in_fan_out": any(config.get("fan_in_fan_out") for config in configs),
        "target_modules": [name.removesuffix(".weight") for name in names],
        "inference_mode": True,
    }


def _headless(adapter: Adapter) -> bool:
    """Whether it was trained on a model whose tensors have shorter names than the base's."""
    return any(
        isinstance(change, LowRank)
        and not change.a.startswith(f"{PREFIX}{name.removesuffix('.weight')}.lora_")
        for name, change in adapter.changes.items()
    )


def _agreed(configs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    """Entries of the first configuration that all others have, too."""
    return {
        key: configs[0].get(key)
        for key in keys
        if configs and all(config.get(key) == configs[0].get(key) for config in configs)
    }
