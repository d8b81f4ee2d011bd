"""Archives are pyribs archives; this room sizes their axes and builds one per task."""

from __future__ import annotations

from qdmerge.archives._axes import Axis, AxisSizing
from qdmerge.archives._build import (
    ArchiveFactory,
    ArchiveSpec,
    build_archives,
    check_axes,
    grid,
    role_of,
    sliding,
)

__all__ = [
    "ArchiveFactory",
    "ArchiveSpec",
    "Axis",
    "AxisSizing",
    "build_archives",
    "check_axes",
    "grid",
    "role_of",
    "sliding",
]
