"""Archives are pyribs archives; this room sizes their axes and builds one per task."""

from __future__ import annotations

from qdmerge.archives._axes import Axis, AxisSizing
from qdmerge.archives._build import (
    ArchiveFactory,
    build_archives,
    check_axes,
    grid,
    role_of,
    sliding,
)
from qdmerge.archives._fit import UNFIT_ARCHIVES, check_archive
from qdmerge.archives._spec import ArchiveSpec

__all__ = [
    "UNFIT_ARCHIVES",
    "ArchiveFactory",
    "ArchiveSpec",
    "Axis",
    "AxisSizing",
    "build_archives",
    "check_archive",
    "check_axes",
    "grid",
    "role_of",
    "sliding",
]
