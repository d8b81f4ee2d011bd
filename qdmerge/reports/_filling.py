"""The archives at several moments of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from qdmerge.backend import Task
from qdmerge.reports._heatmap import draw_panel, shown_pair
from qdmerge.reports._maps import ArchiveMap
from qdmerge.reports._style import COLORMAP, MUTED, WIDTH, axis_label, new_figure, shorten, styled
from qdmerge.reports._tables import counted, number
from qdmerge.search import Stats

_ROWS = 4
"""Most archives in the figure."""
_PARTS = 4
"""Parts of the run that are looked at."""
_HEAD = 0.28
"""Inches of the columns' heads."""


@dataclass(frozen=True, eq=False)
class Moment:
    """The archives at one moment of a run.

    Attributes:
        evaluations: Evaluations of children so far.
        maps: The archives; see :func:`archive_maps`.
        stats: Their statistics.
    """

    evaluations: int
    maps: Sequence[ArchiveMap]
    stats: Stats


def filling_moments(stats: Sequence[tuple[int, Stats]]) -> list[int]:
    """Return when to look: after the seeds, and after each quarter of the evaluations so far.

    Args:
        stats: Evaluations so far and statistics after each told batch, the seeds first.

    Returns:
        Rising numbers of told batches; fewer in a short run.
    """
    done = np.array([evaluations for evaluations, _ in stats])
    if not len(done):
        return []
    goals = done[-1] * np.arange(_PARTS) / _PARTS
    return sorted({*(np.searchsorted(done, goals) + 1).tolist(), len(done)})


@styled
def archive_filling(moments: Sequence[Moment]) -> Figure:
    """Draw a strip per archive: its elites from moment to moment, in one scale of colors.

    At most four archives are shown. Archives with more than two axes show two of them, with the
    best quality over the hidden ones.

    Args:
        moments: The archives at several moments, in order.

    Returns:
        A figure 9 inches wide.

    Raises:
        ValueError: No moments, or no archives.
    """
    tasks = [part.task for part in moments[-1].maps] if moments else []
    if not tasks:
        raise ValueError("there are no archives to draw")
    shown, hidden = tasks[:_ROWS], [shorten(task.name, 30) for task in tasks[_ROWS:]]
    foot = 0.2 if hidden else 0.0
    rows = [2.55 if len(moments[-1].maps[0].axes) > 1 else 2.3] * len(shown)
    rows[0] += _HEAD
    figure = new_figure(WIDTH, sum(rows) + foot, foot)
    strips = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=rows).ravel()
    for row, (strip, task) in enumerate(zip(strips, shown, strict=True)):
        _draw_strip(strip, row, _maps_of(task, moments), moments)
    if hidden:
        text = shorten(f"Not shown: the archives of {', '.join(hidden)}.", 118)
        figure.text(0.01, 0.06 / sum(rows), text, fontsize=9, color=MUTED, va="bottom")
    return figure


def _maps_of(task: Task, moments: Sequence[Moment]) -> list[ArchiveMap]:
    """Return one archive at all moments, in one scale of colors; it may be empty at first."""
    found = [next((part for part in m.maps if part.task == task), None) for m in moments]
    last = next(part for part in reversed(found) if part is not None)
    empty = replace(
        last,
        objective=last.objective[:0],
        measures=last.measures[:0],
        cells=None if last.cells is None else last.cells[:0],
        index=None if last.index is None else last.index[:0],
    )
    qualities = np.concatenate([part.objective for part in found if part is not None])
    scale = float(qualities.min()), float(qualities.max())
    return [replace(part or empty, scale=scale) for part in found]


def _draw_strip(
    strip: SubFigure, row: int, maps: Sequence[ArchiveMap], moments: Sequence[Moment]
) -> None:
    last = maps[-1]
    pair = shown_pair(row, len(last.axes))
    cells = last.boundaries is not None
    hidden = ", best over the hidden axes" if len(last.axes) > 2 and cells else ""
    title = f"quality: {axis_label(last.task, 60)}{hidden}"
    strip.suptitle(title, x=0.01, ha="left", fontsize=10.5, weight="bold")
    strip.supxlabel(axis_label(last.axes[pair[0]], 60), fontsize=10)
    panels = strip.subplots(1, len(maps), squeeze=False)[0]
    for panel, part, moment in zip(panels, maps, moments, strict=True):
        draw_panel(panel, part, pair, (), 20)
        _label(panel, moment, last.task.name, head=row == 0)
        panel.set_xlabel("")
        panel.xaxis.set_major_locator(MaxNLocator(3))
    for panel in panels[1:]:
        panel.set_ylabel("")
        panel.tick_params(labelleft=False)
    _share_limits(panels)
    if len(pair) == 2:
        colors = ScalarMappable(Normalize(*last.quality_range), COLORMAP)
        bar = panels[-1].inset_axes((1.06, 0, 0.08, 1))
        strip.colorbar(colors, cax=bar).outline.set_visible(False)


def _label(panel: Axes, moment: Moment, task: str, head: bool) -> None:
    """Write above a panel what the archive held and, in the first strip, when."""
    stats = moment.stats[task]
    lines = [counted(int(stats["elites"] or 0), "elite")]
    if stats["qd_score"] is not None:
        lines.append(f"QD score {number(stats['qd_score'])}")
    held = "\n".join(lines)
    if not head:
        panel.set_title(held, fontsize=9, weight="normal")
        return
    when = counted(moment.evaluations, "evaluation") if moment.evaluations else "the seeds"
    panel.set_title(when, fontsize=10, pad=8 + 12 * len(lines))
    panel.annotate(
        held, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=9
    )


def _share_limits(panels: Sequence[Axes]) -> None:
    """Give all panels the limits that hold what any of them shows."""
    limits = np.array([(panel.get_xlim(), panel.get_ylim()) for panel in panels])
    (left, bottom), (right, top) = limits[..., 0].min(axis=0), limits[..., 1].max(axis=0)
    for panel in panels:
        panel.set_xlim(left, right)
        panel.set_ylim(bottom, top)
