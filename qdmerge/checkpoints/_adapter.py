"""LoRA adapters as peft saves them, as experts: what they change, read lazily.

The folder holds ``adapter_config.json`` and ``adapter_model.safetensors``. With ``A`` of shape
``(r, in)`` and ``B`` of ``(out, r)``, a linear layer's task vector is ``alpha / r * B A``
(arXiv 2106.09685, section 4.1), with rank-stabilized scaling ``alpha / sqrt(r) * B A`` (arXiv
2312.03732). Names, patterns and special cases follow peft 0.21.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdmerge.checkpoints._adapter_config import (
    ADAPTER_CONFIG,
    pattern_value,
    unsupported,
    wrong_base,
)
from qdmerge.checkpoints._checkpoint import INDEX, SINGLE, Checkpoint, findings, listing
from qdmerge.checkpoints._names import is_embedding, is_head, ties_head, vocabulary_change
from qdmerge.errors import CheckpointError
from qdmerge.storage import read_json

if TYPE_CHECKING:
    import torch

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PICKLED = "adapter_model.bin"

RECORD = "qdmerge.json"
"""What qdmerge's own training writes beside an adapter: ``{"base": {"sha256": ...}}``."""

PREFIX = "base_model.model."
"""What peft puts before the names of the base model's modules."""

_ENDINGS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "embedding_a",
    ".lora_embedding_B": "embedding_b",
    ".lora_B.bias": "added",
    ".base_layer.weight": "frozen",
    ".base_layer.bias": "bias",
}
"""Ends of tensors' names, and the parts of a module that they are."""


@dataclass(frozen=True)
class LowRank:
    """``scale * B A``, or its transpose: what LoRA adds to one matrix.

    Attributes:
        a: Name of ``A`` in the adapter's file.
        b: Name of ``B``.
        rank: Columns of ``B`` and rows of ``A``.
        scale: Factor on the product.
        transposed: Whether the matrix is stored as ``in x out``, as embeddings are.
        embedding: Whether the matrix is an embedding.
    """

    a: str
    b: str
    rank: int
    scale: float
    transposed: bool
    embedding: bool


@dataclass(frozen=True)
class Whole:
    """A tensor that was trained as a whole and replaces the base's."""

    tensor: str


@dataclass(frozen=True)
class Added:
    """``scale * tensor``: the bias that LoRA adds to a bias."""

    tensor: str
    scale: float


Change = LowRank | Whole | Added


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter on a base.

    Attributes:
        checkpoint: The adapter's own tensors.
        config: Its ``adapter_config.json``.
        changes: How tensors of the base change, by their names in the base.
    """

    checkpoint: Checkpoint
    config: Mapping[str, Any]
    changes: Mapping[str, Change]

    @classmethod
    def open(cls, path: Path, base: Checkpoint | None) -> tuple[Adapter, list[str]]:
        """Read headers and configuration; return the adapter and what prevents merging it.

        Args:
            path: The adapter's folder, or its weight file.
            base: The model it adapts; None if that is not known yet.

        Raises:
            CheckpointError: If it cannot be read at all.
        """
        folder = _folder(path)
        config = read_json(folder / ADAPTER_CONFIG, CheckpointError)
        checkpoint = Checkpoint.open(folder / ADAPTER_WEIGHTS)
        problems = unsupported(config)
        if problems:  # its tensors have other names and meanings
            return cls(checkpoint, config, {}), problems
        changes, problems = _changes(checkpoint, config, base)
        if base is not None:
            problems += wrong_base(config, base.path)
            problems += _mismatches(checkpoint, changes, base)
            problems += _other_copies(checkpoint, base)
            problems += _untied(checkpoint, config, changes, base)
        return cls(checkpoint, config, changes), problems

    @property
    def folder(self) -> Path:
        """The adapter's folder."""
        return self.checkpoint.path.parent

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that decide what the expert is."""
        return (*self.checkpoint.files, self.folder / ADAPTER_CONFIG)

    def recorded_base(self) -> str | None:
        """Return the recorded digest of the base that the adapter was trained on, if any.

        Raises:
            CheckpointError: If the record is damaged.
        """
        file = self.folder / RECORD
        base = read_json(file, CheckpointError).get("base") if file.is_file() else None
        digest = base.get("sha256") if isinstance(base, dict) else None
        return digest if isinstance(digest, str) else None

    def factors(self, change: LowRank) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the task vector as ``left @ right``: ``(m, r)``, ``(r, n)``, float32.

        ``m`` and ``n`` are the sides of the base's tensor, viewed as (first) x (all others).
        """
        a, b = (self.checkpoint.read(n).float().flatten(start_dim=1) for n in (change.a, change.b))
        left, right = (a.T, b.T) if change.transposed else (b, a)
        return left * change.scale, right.contiguous()


def is_adapter(path: Path) -> bool:
    """Return whether a folder or file is an adapter, complete or not, and no whole model."""
    if path.name == ADAPTER_WEIGHTS:
        return True
    if not path.is_dir() or any((path / name).is_file() for name in (SINGLE, INDEX)):
        return False
    return any((path / name).is_file() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS, _PICKLED))


def _folder(path: Path) -> Path:
    folder = path.parent if path.name == ADAPTER_WEIGHTS else path
    if not (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(f"{folder}: the adapter's {ADAPTER_CONFIG} is missing")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        pickled = (folder / _PICKLED).is_file()
        raise CheckpointError(
            f"{folder}: only a pickled adapter ({_PICKLED}), which is not read because unpickling "
            "can run code; save it again: save_pretrained(..., safe_serialization=True)"
            if pickled
            else f"{folder}: the adapter's {ADAPTER_WEIGHTS} is missing"
        )
    return folder


def _changes(
    checkpoint: Checkpoint, config: Mapping[str, Any], base: Checkpoint | None
) -> tuple[dict[str, Change], list[str]]:
    """Return what the tensors change, by the base's names, and the problems among them."""
    modules: dict[str, dict[str, str]] = {}
    wholes: dict[str, str] = {}
    unknown = []
    for tensor in checkpoint.tensors:
        name = tensor.removeprefix(PREFIX)
        ending = next((e for e in _ENDINGS if name.endswith(e)), None)
        if name == tensor or (ending is None and "lora_" in name):
            unknown.append(tensor)
        elif ending is None:
            wholes[name] = tensor
        else:
            modules.setdefault(name.removesuffix(ending), {})[_ENDINGS[ending]] = tensor
    problems = findings({"holds tensors that are not named as peft names LoRA": unknown})
    changes: dict[str, Change] = {
        _name_in(base, name): Whole(tensor) for name, tensor in wholes.items()
    }
    halves, ranks = [], []
    for module, parts in modules.items():
        rank = pattern_value(config, "r", module)
        scale = pattern_value(config, "lora_alpha", module)
        scale /= math.sqrt(rank) if config.get("use_rslora") else rank
        weight = _name_in(base, f"{module}.weight")
        for a, b in (("a", "b"), ("embedding_a", "embedding_b")):
            if (a in parts) != (b in parts):
                halves.append(module)
            if a in parts and b in parts:
                embedding = a == "embedding_a"
                stored = checkpoint.tensors[parts[a]].shape[:1]
                if stored != (rank,):
                    ranks.append(f"{module} {rank:g} -> {', '.join(map(str, stored))}")
                changes[weight] = LowRank(
                    parts[a],
                    parts[b],
                    rank=int(rank),
                    scale=scale,
                    transposed=embedding or _in_by_out(base, weight, config),
                    embedding=embedding,
                )
        bias = weight.removesuffix("weight") + "bias"
        if "added" in parts:
            changes[bias] = Added(parts["added"], scale)
        if "bias" in parts:
            if "added" in parts:
                problems.append(f"adds to the bias of {module} and replaces it; only one can be")
            changes[bias] = Whole(parts["bias"])
    if halves:
        problems.append(f"has only one of LoRA's two factors for {listing(halves)}")
    problems += findings({f"has other ranks than its {ADAPTER_CONFIG} says": ranks})
    if not changes and not problems:
        problems.append("holds no LoRA weights")
    return changes, problems


def _name_in(base: Checkpoint | None, name: str) -> str:
    """Return the base's name of a tensor: without its head, it lacks a prefix."""
    if base is None or name in base.tensors:
        return name
    if base.layout is not None:
        return base.layout.renamed(name)
    return f"model.{name}" if f"model.{name}" in base.tensors else name


def _in_by_out(base: Checkpoint | None, weight: str, config: Mapping[str, Any]) -> bool:
    """Return whether the weight of a layer is stored as ``in x out``: the layer's class decides, as
    for peft, or else what the configuration says.
    """
    if base is not None and base.layout is not None:
        layer = base.layout.module(weight.removesuffix(".weight"))
        if layer is not None:
            return type(layer).__name__ == "Conv1D"
    return bool(config.get("fan_in_fan_out"))


def _mismatches(
    checkpoint: Checkpoint, changes: Mapping[str, Change], base: Checkpoint
) -> list[str]:
    lacking, vocabulary, shapes, kinds = [], [], [], []
    for name, change in changes.items():
        if name not in base.tensors:
            if not (is_head(name) and ties_head(base)):  # else the embedding stands for it
                lacking.append(name)
            continue
        ours = base.tensors[name].shape
        theirs = _adapted_shape(checkpoint, change)
        if theirs != ours:
            rows = vocabulary_change(base, name, theirs)
            vocabulary += [rows] if rows else []
            shapes += [] if rows else [f"{name} {ours} -> {theirs}"]
        if not base.tensors[name].floating:
            kinds.append(f"{name} {base.tensors[name].dtype}")
    return findings(
        {
            "adapts tensors that the base lacks": lacking,
            "has another vocabulary (base -> adapter), which takes a whole model (peft's "
            "merge_and_unload)": vocabulary,
            "has tensors of other shapes (base -> adapter)": shapes,
            "adapts tensors of the base that hold no floats": kinds,
        }
    )


def _adapted_shape(checkpoint: Checkpoint, change: Change) -> tuple[int, ...]:
    """Return the shape of the tensor that a change is made for."""
    if not isinstance(change, LowRank):
        return checkpoint.tensors[change.tensor].shape
    a, b = checkpoint.tensors[change.a].shape, checkpoint.tensors[change.b].shape
    if min(len(a), len(b)) < 2 or a[0] != math.prod(b[1:]):
        return (*b[:1], *a[1:], -1)  # fits nothing
    return (*a[1:], b[0]) if change.transposed else (b[0], *a[1:])


def _untied(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    changes: Mapping[str, Change],
    base: Checkpoint,
) -> list[str]:
    """Return a problem if embedding and output layer change apart, but the base ties them."""
    if not ties_head(base) or config.get("ensure_weight_tying"):
        return []
    saved = tuple(config.get("modules_to_save") or ())
    apart = [
        name
        for name, change in changes.items()
        if (is_embedding(name) or is_head(name) or name in _tied_names(base))
        and (isinstance(change, LowRank) or name.removesuffix(".weight").endswith(saved))
    ]
    apart += [n for n in changes if n not in apart and _differs(checkpoint, changes, base, n)]
    if not apart:
        return []
    return [
        f"adapts {listing(apart)} alone, which the base ties to another layer "
        "(tie_word_embeddings); merged, both would change"
    ]


def _other_copies(checkpoint: Checkpoint, base: Checkpoint) -> list[str]:
    """Return a problem if what the adapter keeps of the base beside LoRA is not the base's."""
    ending = ".base_layer.weight"
    copies = {
        tensor: _name_in(base, tensor.removeprefix(PREFIX).replace(ending, ".weight"))
        for tensor in checkpoint.tensors
        if tensor.endswith(ending)
    }
    odd = [
        own
        for tensor, own in copies.items()
        if own in base.tensors and not _close(checkpoint.read(tensor), base.read(own))
    ]
    return findings({"keeps other weights under its LoRA than the base's": odd})


def _tied_names(base: Checkpoint) -> set[str]:
    aliases = base.layout.aliases if base.layout else {}
    return {*aliases, *aliases.values()}


def _differs(
    checkpoint: Checkpoint, changes: Mapping[str, Change], base: Checkpoint, name: str
) -> bool:
    """Return whether a stored copy of a tied tensor is another than the tensor it is tied to."""
    tied = base.layout.aliases.get(name) if base.layout else None
    copy, own = changes[name], changes.get(tied or name)
    if tied is None or not isinstance(copy, Whole):
        return False
    there = checkpoint.read(own.tensor) if isinstance(own, Whole) else base.read(tied)
    return not _close(checkpoint.read(copy.tensor), there)


def _close(copy: torch.Tensor, own: torch.Tensor) -> bool:
    """Return whether two tensors are the same but for the rounding of a number type."""
    if copy.shape != own.shape:
        return False
    gap = (copy.float() - own.float()).abs().max()
    return bool(gap <= 0.01 * own.float().abs().max())
