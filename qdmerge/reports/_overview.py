"""The archives and what came out of them, in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from qdmerge.reports._chart import compact_height, draw_compact
from qdmerge.reports._heatmap import draw_heatmaps, heatmap_size
from qdmerge.reports._maps import ArchiveMap, Mark
from qdmerge.reports._style import WIDTH, new_figure, styled


@styled
def overview(
    maps: Sequence[ArchiveMap], marks: Sequence[Mark], results: Mapping[str, Any]
) -> Figure:
    """Heat maps of the archives above the test scores of references and chosen model.

    Args:
        maps: The archives; see :func:`archive_maps`. With more than two axes, one pair is shown.
        marks: Models to mark in them.
        results: ``results.json``.

    Returns:
        A figure 9 inches wide.
    """
    top, bottom = heatmap_size(maps, marks)[1], compact_height(results)
    figure = new_figure(WIDTH, top + bottom)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(top, bottom)).ravel()
    draw_heatmaps(above, maps, marks)
    draw_compact(below, results)
    return figure
