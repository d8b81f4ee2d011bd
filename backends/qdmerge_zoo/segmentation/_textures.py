"""What the generated images are made of: noise, outlines, strokes, colors, light and a camera.

Fields are arrays (size, size), colors are RGB in 0..1, lengths are fractions of the side of the
image and points are (x, y) in the same unit, so that a picture looks alike at every size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Field = NDArray[np.floating]
"""One number a pixel (size, size)."""
Picture = NDArray[np.floating]
"""Red, green and blue in 0..1 a pixel (size, size, 3)."""
Mask = NDArray[np.bool_]
"""Foreground (size, size)."""
Numbers = Sequence[float] | NDArray[np.floating]
"""A point (2,) or a color (3,)."""
_DIRECTIONS = 1024
"""Directions in which the edge of an outline is known."""


def coordinates(size: int) -> tuple[Field, Field]:
    """Return x (growing to the right) and y (growing downwards) of all pixel centers, in 0..1."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return (x + 0.5) / size, (y + 0.5) / size


def turned(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    """Return coordinates along and across the direction ``angle`` (radians)."""
    cosine, sine = math.cos(angle), math.sin(angle)  # not numpy's, which would widen float32
    return x * cosine + y * sine, y * cosine - x * sine


def noise(
    rng: np.random.Generator,
    size: int,
    scale: float,
    stretch: float = 1.0,
    angle: float = 0.0,
    band: bool = False,
) -> Field:
    """Return Gaussian noise of mean 0 and variance 1, features about ``scale`` long and ``stretch``
    times longer along ``angle`` (radians); ``band`` leaves out all coarser, too.
    """
    fy, fx = np.meshgrid(fft.fftfreq(size, 1 / size), fft.rfftfreq(size, 1 / size), indexing="ij")
    along, across = turned(fx.astype(np.float32), fy.astype(np.float32), angle)
    squared = 4 * scale**2 * (stretch * along**2 + across**2 / stretch)
    weight = np.exp(-squared) * (squared if band else 1.0)
    weight[0, 0] = 0.0
    white = rng.standard_normal((size, size), dtype=np.float32)
    field = fft.irfft2(fft.rfft2(white) * weight, s=(size, size))
    return (field / (field.std() + 1e-12)).astype(np.float32)


def ranks(field: Field, where: Mask) -> Field:
    """Return the field with its values at ``where`` replaced by their ranks, evenly in 0..1."""
    order = np.argsort(np.argsort(field[where]))
    result = field.copy()
    result[where] = (order + 0.5) / max(1, order.size)
    return result


def cells(rng: np.random.Generator, size: int, count: int) -> tuple[Field, Field, NDArray[np.intp]]:
    """Scatter centers; return each pixel's distance to the nearest one and from its cell's border
    (both relative to a cell's mean size), and the number of its cell.
    """
    side = int(np.ceil(np.sqrt(count)))
    columns, rows = np.meshgrid(np.arange(-1, side + 1), np.arange(-1, side + 1))
    centers = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    centers = ((centers + rng.uniform(-0.45, 0.45, centers.shape)) / side).astype(np.float32)
    x, y = coordinates(size)
    column, row = (np.minimum((axis * side).astype(np.intp), side - 1) for axis in (x, y))
    first = np.full((size, size), np.inf, np.float32)
    second, number = first.copy(), np.zeros((size, size), np.intp)
    for down in range(3):
        for right in range(3):
            index = (row + down) * (side + 2) + column + right
            distance = np.hypot(x - centers[index, 0], y - centers[index, 1])
            closer = distance < first
            second = np.where(closer, first, np.minimum(second, distance))
            number = np.where(closer, index, number)
            first = np.where(closer, distance, first)
    return first * side, (second - first) * side, number


def outline(
    rng: np.random.Generator,
    size: int,
    center: Numbers,
    radius: float,
    aspect: float = 1.0,
    angle: float = 0.0,
    wobble: float = 0.15,
    waves: int = 6,
) -> Field:
    """Return a field that is 1 in the center of an irregular blob, 0 on its edge, then negative."""
    x, y = coordinates(size)
    along, across = turned(x - float(center[0]), y - float(center[1]), angle)
    along, across = along / aspect**0.5, across * aspect**0.5
    order = np.arange(2, 2 + waves)
    heights = wobble * rng.standard_normal(waves) / (order - 1)
    phases = rng.uniform(0, 2 * np.pi, waves)
    around = np.linspace(-np.pi, np.pi, _DIRECTIONS + 1)
    edge = 1 + np.cos(np.outer(around, order) + phases) @ heights
    edge = (radius * np.maximum(edge, 0.25)).astype(np.float32)
    direction = (np.arctan2(across, along) / np.pi + 1) * (_DIRECTIONS / 2)
    return 1 - np.hypot(along, across) / edge[direction.astype(np.intp)]


def curve(
    rng: np.random.Generator, start: Numbers, angle: float, length: float, bend: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Walk from ``start`` in a slowly turning direction; return points (n, 2), 0.0075 apart, and
    the directions there (n,), radians.
    """
    step = 0.0075
    turns = ndimage.gaussian_filter1d(rng.standard_normal(max(2, int(length / step))), 4)
    directions = angle + bend * np.cumsum(turns)
    moves = step * np.stack([np.cos(directions), np.sin(directions)], axis=1)
    return np.asarray(start) + np.cumsum(moves, axis=0), directions


def strokes(size: int, points: NDArray[np.float64], radii: NDArray[np.float64]) -> Field:
    """Draw discs (n, 2), (n,): how deep every pixel lies inside them, in pixels, at least -1."""
    centers = (points * size - 0.5).astype(np.float32)
    radii = (radii * size).astype(np.float32)
    reach = np.arange(-int(radii.max() + 1), int(radii.max() + 1) + 1)
    columns = np.rint(centers[:, 0]).astype(np.intp)[:, None, None] + reach[None, None, :]
    rows = np.rint(centers[:, 1]).astype(np.intp)[:, None, None] + reach[None, :, None]
    depth = radii[:, None, None] - np.hypot(
        columns - centers[:, 0, None, None], rows - centers[:, 1, None, None]
    )
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size) & (depth > -1)
    field = np.full(size * size, -1.0, np.float32)
    np.maximum.at(field, (rows * size + columns)[inside], depth[inside])
    return field.reshape(size, size)


def rise(field: Field, low: float, high: float) -> Field:
    """Return a smooth step from 0 where the field is ``low`` to 1 where it is ``high``."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def gradient_colors(levels: Field, palette: NDArray[np.float64]) -> Picture:
    """Turn levels in 0..1 into colors on the line through the palette (n, 3)."""
    stops = np.linspace(0, 1, len(palette))
    return np.stack([np.interp(levels, stops, channel) for channel in palette.T], axis=2)


def color(rng: np.random.Generator, low: Numbers, high: Numbers) -> NDArray[np.floating]:
    """Draw a color (3,) near the line between two others."""
    between = rng.uniform() + rng.uniform(-0.15, 0.15, 3)
    return np.asarray(low) + np.clip(between, 0, 1) * np.subtract(high, low)


def blend(below: Picture, above: Picture | Numbers, amount: Field) -> Picture:
    """Lay a picture or a color (3,) over another one; ``amount`` is its opacity in 0..1."""
    return below + amount[..., None] * (np.asarray(above) - below)


def relief(height: Field, light: float, depth: float) -> Field:
    """Return the brightness of a surface lit from the direction ``light``, about 1 where flat."""
    down, right = np.gradient(height * (len(height) * depth))
    slope, _ = turned(right, down, light)
    return np.clip((1 - slope) / np.sqrt(1 + right**2 + down**2), 0, 2)


def photograph(
    rng: np.random.Generator, picture: Picture, blur: float = 0.5, grain: float = 0.02
) -> NDArray[np.uint8]:
    """Take the picture with a camera: unsteady exposure, blur (pixels), grain, 8 bits."""
    exposed = np.clip(picture, 0, 1).astype(np.float32) ** rng.uniform(0.8, 1.25)
    exposed = ndimage.gaussian_filter(exposed, (blur, blur, 0))
    exposed += grain * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.clip(np.rint(exposed * 255), 0, 255).astype(np.uint8)


def draw_until(draw: Callable[[], Field], low: float, high: float) -> Field:
    """Draw shapes until one is positive on a share of the image between ``low`` and ``high``."""
    while True:
        shape = draw()
        if low <= np.mean(shape > 0) <= high:
            return shape
