"""Figures and tables of a run, from its folder or from plain data."""

from __future__ import annotations

from qdmerge.reports._chart import candidates_chart
from qdmerge.reports._draw import draw_figures
from qdmerge.reports._heatmap import archive_heatmap
from qdmerge.reports._maps import ArchiveMap, Mark, archive_maps
from qdmerge.reports._overview import overview
from qdmerge.reports._progress import progress_curves
from qdmerge.reports._tables import results_markdown, results_table

__all__ = [
    "ArchiveMap",
    "Mark",
    "archive_heatmap",
    "archive_maps",
    "candidates_chart",
    "draw_figures",
    "overview",
    "progress_curves",
    "results_markdown",
    "results_table",
]
