"""Statistics of the archives of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.search._elites import Stats

if TYPE_CHECKING:
    from qdmerge.search._cycle import CycleQD


def archive_stats(search: CycleQD) -> Stats:
    """Return the statistics of a search's archives; None where one is undefined."""

    def number(value: Any) -> float | None:
        return float(value) if value is not None and np.isfinite(value) else None

    return {
        task: {
            "elites": len(archive),
            "coverage": number(archive.stats.coverage),
            "qd_score": number(archive.stats.qd_score),
            "best": number(archive.stats.obj_max),
        }
        for task, archive in search.archives.items()
    }
