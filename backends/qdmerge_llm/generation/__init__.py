"""Batched greedy decoding on a live model."""

from __future__ import annotations

from qdmerge_llm.generation._cache import cache_argument, cache_of, layers_of
from qdmerge_llm.generation._generator import Generator
from qdmerge_llm.generation._text import FENCED_BLOCK

__all__ = ["FENCED_BLOCK", "Generator", "cache_argument", "cache_of", "layers_of"]
