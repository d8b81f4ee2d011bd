"""Comparisons: every method in the same budget, on the same splits, with honest statistics."""

from __future__ import annotations

from qdmerge.compare._output import write_comparison
from qdmerge.compare._plan import PlannedRun
from qdmerge.compare._study import Study
from qdmerge.compare._vary import vary
from qdmerge.methods import METHODS, Method, find_methods

__all__ = [
    "METHODS",
    "Method",
    "PlannedRun",
    "Study",
    "find_methods",
    "vary",
    "write_comparison",
]
