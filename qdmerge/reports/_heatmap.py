"""Heat maps of the archives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from qdmerge.reports._maps import ArchiveMap, Mark, bounded_cells, padded
from qdmerge.reports._style import (
    CHOSEN_COLOR,
    COLORMAP,
    EMPTY_COLOR,
    MARKERS,
    WIDTH,
    Canvas,
    axis_label,
    halo,
    legend_shape,
    new_figure,
    shorten,
    styled,
)

_COLUMNS = 3


@styled
def archive_heatmap(maps: Sequence[ArchiveMap], marks: Sequence[Mark] = ()) -> Figure:
    """Draw a heat map per archive: the axes are its measures, the color is quality.

    Archives with one axis become bars, with two axes cells (points if the archive has no cells).
    With more axes, each pair of them gets a panel with the best quality over the hidden axes.

    Args:
        maps: The archives; see :func:`archive_maps`.
        marks: Models to mark at their scores. Beyond an axis they are marked at its end, where
            the archives count them.

    Returns:
        A figure 9 inches wide, less for a single panel.

    Raises:
        ValueError: No archives.
    """
    if not maps:
        raise ValueError("there are no archives to draw")
    if len(maps[0].axes) > 2:
        return _all_pairs(maps, marks)
    figure = new_figure(*heatmap_size(maps, marks))
    draw_heatmaps(figure, maps, marks)
    return figure


def heatmap_size(maps: Sequence[ArchiveMap], marks: Sequence[Mark]) -> tuple[float, float]:
    """Return width and height in inches of one panel per archive and a legend."""
    columns = _columns(len(maps))
    rows = -(-len(maps) // columns)
    width = min(WIDTH, 4.2 * columns)
    panel = width / columns
    height = min(0.78 * panel, 2.9) if len(maps[0].axes) == 1 else panel + 0.45
    return width, rows * height + 0.3 * _legend_rows(marks, width)


def draw_heatmaps(canvas: Canvas, maps: Sequence[ArchiveMap], marks: Sequence[Mark]) -> None:
    """Draw one panel per archive, in rows, and one legend."""
    columns = _columns(len(maps))
    width = heatmap_size(maps, marks)[0]
    rows = -(-len(maps) // columns)
    panels = canvas.subplots(rows, columns, squeeze=False).ravel()
    for position, panel, part in zip(count(), panels, maps, strict=False):
        pair = shown_pair(position, len(part.axes))
        length = int(11 * (width / columns - 0.5))
        draw_panel(panel, part, pair, marks, length, small=columns > 3)
        _title(panel, part, length)
    for panel in panels[len(maps) :]:
        panel.remove()
    _draw_legend(canvas, marks, width)


def shown_pair(archive: int, axes: int) -> list[int]:
    """Return the two axes (or the only one) that the one panel of an archive shows; over all
    archives, every task is on some axis.
    """
    first = archive % axes
    return sorted({first, (first + 1) % axes})


def _columns(panels: int) -> int:
    """Return the panels in a row: up to four, and no row much emptier than the others."""
    return panels if panels <= 4 else min((3, 4), key=lambda columns: -panels % columns)


def _title(panel: Axes, part: ArchiveMap, length: int) -> None:
    title = f"quality: {axis_label(part.task, length - 9)}"
    if len(part.axes) == 1:
        panel.set_title(title)
        return
    low, high = part.quality_range
    bar = panel.inset_axes((0, 1.035, 1, 0.045))
    colors = panel.figure.colorbar(
        ScalarMappable(Normalize(low, high), COLORMAP),
        cax=bar,
        orientation="horizontal",
        ticklocation="top",
    )
    colors.outline.set_visible(False)
    colors.locator = MaxNLocator(4)
    bar.tick_params(length=2, pad=1)
    bar.set_title(title)


@styled
def _all_pairs(maps: Sequence[ArchiveMap], marks: Sequence[Mark]) -> Figure:
    pairs = maps[0].pairs
    columns = min(_COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    legend = 0.3 * _legend_rows(marks, WIDTH)
    block = rows * 2.6 + 0.3
    figure = new_figure(WIDTH, len(maps) * block + legend)
    blocks = figure.subfigures(len(maps), 1, squeeze=False).ravel()
    for canvas, part in zip(blocks, maps, strict=True):
        title = f"quality: {axis_label(part.task, 60)}, best over the hidden axes"
        canvas.suptitle(title, x=0.01, ha="left", fontsize=10.5, weight="bold")
        panels = canvas.subplots(rows, columns, squeeze=False).ravel()
        for panel, pair in zip(panels, pairs, strict=False):
            draw_panel(panel, part, pair, marks, 24)
        for panel in panels[len(pairs) :]:
            panel.remove()
        canvas.colorbar(
            ScalarMappable(Normalize(*part.quality_range), COLORMAP),
            ax=list(panels[: len(pairs)]),
            aspect=18 * rows,
            pad=0.015,
        ).outline.set_visible(False)
    _draw_legend(figure, marks, WIDTH)
    return figure


def draw_panel(
    panel: Axes,
    part: ArchiveMap,
    axes: Sequence[int],
    marks: Sequence[Mark],
    length: int,
    small: bool = False,
) -> None:
    """Draw an archive over one or two of its axes, given by their positions. ``length`` limits the
    characters of an axis' label; a ``small`` panel has small marks.
    """
    names = [part.axes[axis].name for axis in axes]
    shown = [mark for mark in marks if all(name in mark.values for name in names)]
    if len(part.axes) == 1:
        shown = [mark for mark in shown if part.task.name in mark.values]
        names.append(part.task.name)
    places = np.array([[mark.values[name] for name in names] for mark in shown])
    places = places.reshape(len(shown), len(names))
    _set_limits(panel, part, axes, places)
    panel.set_xlabel(axis_label(part.axes[axes[0]], length))
    panel.xaxis.set_major_locator(MaxNLocator(4))
    panel.yaxis.set_major_locator(MaxNLocator(4))
    if len(axes) == 1:
        panel.set_ylabel(axis_label(part.task, 26))
        _draw_bars(panel, part)
    else:
        panel.set_ylabel(axis_label(part.axes[axes[1]], length))
        panel.set_box_aspect(1)
        _draw_cells(panel, part, axes)
    if len(places):
        places = np.clip(places, *np.sort([panel.get_xlim(), panel.get_ylim()], axis=1).T)
    for line, place in zip(_mark_lines(marks, shown, small), places, strict=True):
        line.set_data(place[:1], place[1:])
        panel.add_line(line)


def _set_limits(panel: Axes, part: ArchiveMap, axes: Sequence[int], places: np.ndarray) -> None:
    low, high = part.low[list(axes)], part.high[list(axes)]
    if not part.bounded and len(places):
        points = np.vstack([part.measures[:, list(axes)], places[:, : len(axes)]])
        low, high = padded(points)
    panel.set_xlim(low[0], high[0])
    if len(axes) == 2:
        panel.set_ylim(low[1], high[1])
        return
    qualities = np.append(part.objective, places[:, 1:])
    top, bottom = qualities.max(initial=0.0), qualities.min(initial=0.0)
    panel.set_ylim(bottom and bottom * 1.1, top + 0.12 * (top - bottom or 1))


def _draw_cells(panel: Axes, part: ArchiveMap, axes: Sequence[int]) -> None:
    """Draw quality as color over two axes."""
    norm = Normalize(*part.quality_range)
    if part.boundaries is not None:
        panel.set_facecolor(EMPTY_COLOR)
        best = np.ma.masked_invalid(part.best_per_bin(axes).T)
        x, y = (part.boundaries[axis] for axis in axes)
        line = 0.4 if max(best.shape) <= 40 else 0
        panel.pcolormesh(x, y, best, cmap=COLORMAP, norm=norm, edgecolors="white", linewidth=line)
    elif part.centroids is not None and part.index is not None and len(part.axes) == 2:
        cells = bounded_cells(part.centroids, part.low, part.high)
        colors = np.full((len(cells), 4), 0.937)
        colors[:, 3] = 1
        colors[part.index] = colormaps[COLORMAP](norm(part.objective))
        line = 0.4 if len(cells) <= 1000 else 0.1
        panel.add_collection(
            PolyCollection(cells, facecolors=colors, edgecolors="white", linewidths=line)
        )
    else:
        panel.grid()
        best_last = np.argsort(part.objective, kind="stable")
        x, y = part.measures[best_last][:, list(axes)].T
        panel.scatter(
            x,
            y,
            c=part.objective[best_last],
            cmap=COLORMAP,
            norm=norm,
            s=30,
            edgecolors="white",
            linewidths=0.5,
        )


def _draw_bars(panel: Axes, part: ArchiveMap) -> None:
    """Draw quality as height over the only axis."""
    colors = colormaps[COLORMAP](Normalize(*part.quality_range)(part.objective))
    if part.boundaries is not None and part.cells is not None:
        edges, at = part.boundaries[0], part.cells[:, 0]
    elif part.centroids is not None and part.index is not None:
        middles = np.sort(part.centroids[:, 0])
        edges = np.array([part.low[0], *(middles[1:] + middles[:-1]) / 2, part.high[0]])
        at = np.argsort(np.argsort(part.centroids[:, 0]))[part.index]
    else:
        panel.vlines(part.measures[:, 0], 0, part.objective, colors=colors, linewidth=0.8)
        panel.scatter(part.measures[:, 0], part.objective, c=colors, s=30, edgecolors="white")
        return
    narrow = len(edges) > 60  # white edges would leave nothing of the bars
    panel.bar(
        edges[at],
        part.objective,
        np.diff(edges)[at],
        align="edge",
        color=colors,
        edgecolor=colors if narrow else "white",
        linewidth=0.4 if narrow else 0.6,
    )


def _mark_lines(marks: Sequence[Mark], shown: Sequence[Mark], small: bool = False) -> list[Line2D]:
    """Return a hollow symbol for each shown mark, the same in every panel."""
    experts = [mark for mark in marks if not mark.chosen]
    return [
        _symbol("*", 12 if small else 15, CHOSEN_COLOR, mark.label, 5)
        if mark.chosen
        else _symbol(
            MARKERS[experts.index(mark) % len(MARKERS)], 6.5 if small else 8, "black", mark.label, 6
        )
        for mark in shown
    ]


def _symbol(marker: str, size: float, color: str, label: str, zorder: int) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=marker,
        markersize=size,
        markerfacecolor="none",
        markeredgecolor=color,
        markeredgewidth=1.5,
        label=shorten(label, 40),
        clip_on=False,
        zorder=zorder,
        path_effects=halo(3.5),
    )


def _legend_rows(marks: Sequence[Mark], width: float) -> int:
    return legend_shape([shorten(mark.label, 40) for mark in marks], width)[0]


def _draw_legend(canvas: Canvas, marks: Sequence[Mark], width: float) -> None:
    if marks:
        columns = legend_shape([shorten(mark.label, 40) for mark in marks], width)[1]
        lines = _mark_lines(marks, marks)
        canvas.legend(handles=lines, loc="outside lower center", ncols=columns)
