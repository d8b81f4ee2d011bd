"""Emitters are pyribs emitters; MergeEmitter is CycleQD's.

MergeEmitter is imported on first use, since pyribs takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdmerge.emitters._build import (
    EmitterFactory,
    EmitterSpec,
    build_emitters,
    expert_of,
    paper_emitter,
)

if TYPE_CHECKING:
    from qdmerge.emitters._merge import MergeEmitter

__all__ = [
    "EmitterFactory",
    "EmitterSpec",
    "MergeEmitter",
    "build_emitters",
    "expert_of",
    "paper_emitter",
]


def __getattr__(name: str) -> Any:
    if name == "MergeEmitter":
        from qdmerge.emitters._merge import MergeEmitter

        return MergeEmitter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
