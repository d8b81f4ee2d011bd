"""CycleQD, the search: ask, tell, run, best, aggregate.

- :class:`CycleQD`: the front door; :class:`Elite`: a model of one of its archives.
- :data:`Stats`, :func:`archive_stats`: statistics of the archives; :func:`archive_seeds`,
  :func:`first_elites`: what decides them.
"""

from __future__ import annotations

from qdmerge.search._cycle import CycleQD
from qdmerge.search._elites import Elite, Stats, archive_seeds, first_elites
from qdmerge.search._stats import archive_stats

__all__ = [
    "CycleQD",
    "Elite",
    "Stats",
    "archive_seeds",
    "archive_stats",
    "first_elites",
]
