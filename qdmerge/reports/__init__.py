"""Figures and tables of a run, from its folder or from plain data."""

from __future__ import annotations

from qdmerge.reports._chart import candidates_chart
from qdmerge.reports._figures import draw_figures, overview, progress_curves
from qdmerge.reports._filling import Moment, archive_filling, filling_moments
from qdmerge.reports._heatmap import archive_heatmap
from qdmerge.reports._maps import ArchiveMap, Mark, archive_maps
from qdmerge.reports._style import new_figure, save_figure, shorten, styled
from qdmerge.reports._tables import results_markdown, results_table, side_tasks_table

__all__ = [
    "ArchiveMap",
    "Mark",
    "Moment",
    "archive_filling",
    "archive_heatmap",
    "archive_maps",
    "candidates_chart",
    "draw_figures",
    "filling_moments",
    "new_figure",
    "overview",
    "progress_curves",
    "results_markdown",
    "results_table",
    "save_figure",
    "shorten",
    "side_tasks_table",
    "styled",
]
