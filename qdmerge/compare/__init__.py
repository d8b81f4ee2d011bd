"""Comparisons: every method in the same budget, on the same splits, with honest statistics."""

from __future__ import annotations

from qdmerge.methods import METHODS, Method, find_methods
from qdmerge.compare._output import write_comparison
from qdmerge.compare._study import PlannedRun, Study
from qdmerge.compare._vary import vary

__all__ = [
    "METHODS",
    "Method",
    "PlannedRun",
    "Study",
    "find_methods",
    "vary",
    "write_comparison",
]
