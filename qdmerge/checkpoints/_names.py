"""Names of tensors: embeddings, heads, tied weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdmerge.checkpoints._checkpoint import Checkpoint

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


def ties_head(base: Checkpoint) -> bool | None:
    """Return whether a base's output layer is its embedding: as loaded, else as configured."""
    if base.layout is None:
        return ties(base.config())
    return any(is_head(name) or is_head(own) for name, own in base.layout.aliases.items())


def vocabulary_change(base: Checkpoint, name: str, shape: tuple[int, ...]) -> str | None:
    """Return ``"name 100 -> 101 rows"`` if the shape has another number of tokens; else None."""
    ours = base.tensors[name].shape
    if len(ours) != len(shape) or len(ours) != 2 or ours[1] != shape[1] or ours[0] == shape[0]:
        return None
    if is_embedding(name) or is_head(name) or ours[0] == base.config().get("vocab_size"):
        return f"{name} {ours[0]} -> {shape[0]} rows"
    return None
