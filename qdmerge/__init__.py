"""qdmerge: merge fine-tuned experts into multi-skill models by quality diversity.

The public names are loaded on first use, so that ``import qdmerge`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qdmerge.archives import ArchiveSpec, AxisSizing
    from qdmerge.backend import BackendConfig, Evaluation, GenomeBackend, Measure, Task
    from qdmerge.cycleqd import CycleQD, Elite
    from qdmerge.emitters import EmitterSpec, MergeEmitter
    from qdmerge.errors import QDMergeError
    from qdmerge.runs import load_backend
    from qdmerge.schedulers import Batch

__version__ = "0.1.0"

_HOMES = {
    "ArchiveSpec": "qdmerge.archives",
    "AxisSizing": "qdmerge.archives",
    "BackendConfig": "qdmerge.backend",
    "Batch": "qdmerge.schedulers",
    "CycleQD": "qdmerge.cycleqd",
    "Elite": "qdmerge.cycleqd",
    "EmitterSpec": "qdmerge.emitters",
    "Evaluation": "qdmerge.backend",
    "GenomeBackend": "qdmerge.backend",
    "Measure": "qdmerge.backend",
    "MergeEmitter": "qdmerge.emitters",
    "QDMergeError": "qdmerge.errors",
    "Task": "qdmerge.backend",
    "load_backend": "qdmerge.runs",
}

__all__ = [
    "ArchiveSpec",
    "AxisSizing",
    "BackendConfig",
    "Batch",
    "CycleQD",
    "Elite",
    "EmitterSpec",
    "Evaluation",
    "GenomeBackend",
    "Measure",
    "MergeEmitter",
    "QDMergeError",
    "Task",
    "load_backend",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'qdmerge' has no attribute {name!r}")
