"""Tensor names in files and in live modules: embeddings, heads, tied weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qdmerge.checkpoints._checkpoint import Checkpoint, listing
from qdmerge.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings")
_HEADS = ("lm_head", "embed_out")


def is_embedding(name: str) -> bool:
    """Return whether a tensor is the input embedding of a language model."""
    return name.endswith(".weight") and name.split(".")[-2] in _EMBEDDINGS


def is_head(name: str) -> bool:
    """Return whether a tensor is the output layer of a language model."""
    return name.endswith(".weight") and name.split(".")[-2] in _HEADS


def ties(config: Mapping[str, Any]) -> bool | None:
    """Return whether the output layer is the input embedding; None if not configured."""
    nested = config.get("text_config")
    value = config.get("tie_word_embeddings")
    if value is None and isinstance(nested, Mapping):
        value = nested.get("tie_word_embeddings")
    return None if value is None else bool(value)


def vocabulary_change(base: Checkpoint, name: str, shape: tuple[int, ...]) -> str | None:
    """Return ``"name 100 -> 101 rows"`` if the shape has another number of tokens; else None."""
    ours = base.tensors[name].shape
    if len(ours) != len(shape) or len(ours) != 2 or ours[1] != shape[1] or ours[0] == shape[0]:
        return None
    if is_embedding(name) or is_head(name) or ours[0] == base.config().get("vocab_size"):
        return f"{name} {ours[0]} -> {shape[0]} rows"
    return None


def bind(
    shapes: Mapping[str, tuple[int, ...]], module: torch.nn.Module
) -> list[tuple[str, torch.Tensor]]:
    """Pair every tensor of the module with the checkpoint tensor that belongs there, or raise. Of a
    tensor's several names (tied weights) the first that the checkpoint holds counts.
    """
    import torch

    places = {n: t for n, t in module.state_dict(keep_vars=True).items() if torch.is_tensor(t)}
    if any(name not in places for name in shapes):  # the checkpoint may hold transient buffers
        places |= {n: b for n, b in module.named_buffers(remove_duplicate=False) if n in shapes}
    problems = []
    missing = [name for name in shapes if name not in places]
    if missing:
        problems.append(f"the module lacks {listing(missing)}")
    odd = [
        f"{name} is {tuple(places[name].shape)}, the checkpoint has {shape}"
        for name, shape in shapes.items()
        if name in places and places[name].shape != shape
    ]
    if odd:
        problems.append(f"shapes differ: {listing(odd)}")
    paired: dict[int, tuple[str, torch.Tensor]] = {}
    for name, place in places.items():
        if name in shapes:
            paired.setdefault(id(place), (name, place))
    extra = [name for name, place in places.items() if id(place) not in paired]
    if extra:
        problems.append(f"the checkpoint lacks {listing(extra)}")
    if problems:
        raise CheckpointError(
            f"{type(module).__name__} does not fit the checkpoint: {'; '.join(problems)}"
        )
    return list(paired.values())
