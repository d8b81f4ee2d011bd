"""Voronoi cells within a rectangle."""

from __future__ import annotations

import numpy as np


def bounded_cells(centroids: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
    """Voronoi cells of points in a rectangle, cut at its borders.

    Each point is mirrored at all four borders, which makes the borders edges of the diagram.

    Args:
        centroids: ``(c, 2)`` points within the rectangle.
        low: ``(2,)`` its lower corner.
        high: ``(2,)`` its upper corner.

    Returns:
        Per point, the ``(v, 2)`` corners of its cell.
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
