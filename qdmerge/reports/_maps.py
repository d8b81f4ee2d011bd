"""Archives as plain data for figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from qdmerge.backend import Measure, Task

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase


def bounded_cells(centroids: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """Return the ``(v, 2)`` corners of the Voronoi cells of ``(c, 2)`` points in a rectangle:
    mirroring the points at all four borders makes the borders edges of the diagram.
    """
    from scipy.spatial import Voronoi

    unit = (centroids - low) / (high - low)
    mirrored = [unit]
    for axis in (0, 1):
        for border in (0.0, 1.0):
            copy = unit.copy()
            copy[:, axis] = 2 * border - copy[:, axis]
            mirrored.append(copy)
    diagram = Voronoi(np.vstack(mirrored))
    regions = (diagram.regions[diagram.point_region[i]] for i in range(len(unit)))
    return [low + np.clip(diagram.vertices[region], 0, 1) * (high - low) for region in regions]


@dataclass(frozen=True, eq=False)
class ArchiveMap:
    """An archive with d axes and n elites.

    Attributes:
        task: Task whose score is the quality.
        axes: The d axes: the other tasks, then the backend's own measures.
        objective: ``(n,)`` quality of the elites.
        measures: ``(n, d)`` positions of the elites.
        low: ``(d,)`` lower ends of the axes.
        high: ``(d,)`` upper ends of the axes.
        bounded: Whether the archive has ends of its axes; if not, they follow from the elites.
        boundaries: Of a grid: per axis, the ``(bins + 1,)`` borders of its bins; else None.
        cells: Of a grid: ``(n, d)`` the elites' bins; else None.
        centroids: Of Voronoi cells: their ``(c, d)`` centroids; else None.
        index: Of Voronoi cells: ``(n,)`` the elites' cells; else None.
        scale: Least and greatest quality of the colors; None for the elites' own.
    """

    task: Task
    axes: tuple[Task | Measure, ...]
    objective: np.ndarray
    measures: np.ndarray
    low: np.ndarray
    high: np.ndarray
    bounded: bool
    boundaries: tuple[np.ndarray, ...] | None = None
    cells: np.ndarray | None = None
    centroids: np.ndarray | None = None
    index: np.ndarray | None = None
    scale: tuple[float, float] | None = None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of axes that get a panel; of many axes, only neighbors."""
        pairs = list(combinations(range(len(self.axes)), 2))
        return pairs if len(pairs) <= 6 else [(i, i + 1) for i in range(len(self.axes) - 1)]

    @property
    def quality_range(self) -> tuple[float, float]:
        """Least and greatest quality of the colors; never equal."""
        low, high = self.scale or (float(self.objective.min()), float(self.objective.max()))
        return (low, high) if low < high else (low - 0.05, high + 0.05)

    def best_per_bin(self, axes: Sequence[int]) -> np.ndarray:
        """Return the best quality of a grid in each bin of some axes, over all bins of the others.

        Args:
            axes: Positions of the axes that remain.

        Returns:
            One dimension per remaining axis; NaN without an elite.
        """
        assert self.boundaries is not None
        assert self.cells is not None
        best = np.full([len(self.boundaries[axis]) - 1 for axis in axes], -np.inf)
        np.maximum.at(best, tuple(self.cells[:, axis] for axis in axes), self.objective)
        return np.where(np.isinf(best), np.nan, best)


@dataclass(frozen=True)
class Mark:
    """A model to be marked in the archives.

    Attributes:
        label: Its label in the legend.
        values: Name of task or measure to value; a panel without the value of an axis does not
            mark the model.
        chosen: Whether the run chose it; others are experts.
    """

    label: str
    values: Mapping[str, float]
    chosen: bool = False


def archive_maps(
    archives: Mapping[str, ArchiveBase], tasks: Sequence[Task], measures: Sequence[Measure] = ()
) -> list[ArchiveMap]:
    """Return the archives of a search as data for :func:`archive_heatmap`, without empty ones.

    Args:
        archives: Task name to its archive, such as :attr:`qdmerge.search.CycleQD.archives`.
        tasks: The K tasks, in the order of the score columns.
        measures: The backend's own measures.
    """
    by_name = {task.name: task for task in tasks}
    return [
        _archive_map(archive, by_name[name], (*_others(tasks, name), *measures))
        for name, archive in archives.items()
        if len(archive)
    ]


def _others(tasks: Sequence[Task], name: str) -> list[Task]:
    return [task for task in tasks if task.name != name]


def _archive_map(archive: ArchiveBase, task: Task, axes: tuple[Task | Measure, ...]) -> ArchiveMap:
    from ribs.archives import CVTArchive, GridArchive

    data = archive.data(["objective", "measures", "index"])
    measures = np.asarray(data["measures"], float)
    bounded = hasattr(archive, "lower_bounds") and hasattr(archive, "upper_bounds")
    if bounded:
        low, high = np.array(archive.lower_bounds), np.array(archive.upper_bounds)
    else:
        low, high = padded(measures)
    grid, voronoi = isinstance(archive, GridArchive), isinstance(archive, CVTArchive)
    return ArchiveMap(
        task,
        axes,
        np.asarray(data["objective"], float),
        measures,
        low,
        high,
        bounded,
        boundaries=tuple(np.array(edges) for edges in archive.boundaries) if grid else None,
        cells=archive.int_to_grid_index(data["index"]) if grid else None,
        centroids=np.array(archive.centroids) if voronoi else None,
        index=np.array(data["index"]) if voronoi else None,
    )


def padded(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(d,)`` lower and upper ends that hold ``(n, d)`` points with a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.where(high > low, 0.06 * (high - low), 0.5)
    return low - margin, high + margin
