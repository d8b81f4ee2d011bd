"""Skeleton: thin branching structures, a little brighter than what lies around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdmerge_zoo.segmentation._textures import (
    Field,
    Mask,
    Numbers,
    color,
    curve,
    draw_until,
    noise,
    outline,
    photograph,
    rise,
    strokes,
)

SHARE = (0.04, 0.22)
"""Smallest and largest share of the image that the structures cover."""


def generate(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], Mask]:
    """Draw an image (size, size, 3) and the mask (size, size) of its branching structures."""
    depth = draw_until(lambda: _trees(rng, size), *SHARE)
    brightness = rng.uniform(0.1, 0.35) + rng.uniform(0.03, 0.1) * noise(rng, size, 0.2)
    brightness = brightness + rng.uniform(0.01, 0.03) * noise(rng, size, 0.02)
    brightness = brightness + _clouds(rng, size)
    strength = rng.uniform(0.16, 0.34) * np.clip(1 + 0.35 * noise(rng, size, 0.06), 0.45, 1.8)
    brightness = np.clip(brightness, 0.03, None) + strength * rise(depth, -0.8, 0.8)
    brightness = brightness + 0.5 * strength * _specks(rng, size)
    tint = color(rng, (0.65, 0.75, 0.65), (1.1, 1.1, 1.1))
    picture = brightness[..., None] ** (1 / tint)
    return photograph(rng, picture, blur=rng.uniform(0.3, 0.6), grain=0.035), depth > 0


def _trees(rng: np.random.Generator, size: int) -> Field:
    """One to three trees that grow from the border or from within."""
    points: list[NDArray[np.float64]] = []
    radii: list[NDArray[np.float64]] = []

    def grow(start: Numbers, angle: float, length: float, radius: float) -> None:
        path, directions = curve(rng, start, angle, length, bend=0.22)
        points.append(path)
        radii.append(np.linspace(radius, 0.75 * radius, len(path)))
        if radius < 0.0075:
            return
        for _ in range(int(rng.integers(2, 5))):
            at = int(rng.uniform(0.2, 0.95) * len(path))
            side = rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
            grow(path[at], directions[at] + side, length * rng.uniform(0.4, 0.75), 0.75 * radius)

    for _ in range(int(rng.integers(1, 4))):
        start = rng.uniform(0.1, 0.9, 2)
        if rng.random() < 0.6:
            start[int(rng.integers(2))] = rng.choice([-0.01, 1.01])
        length = rng.uniform(0.5, 0.9)
        inwards = np.arctan2(*(0.5 - start)[::-1])
        grow(start, inwards + rng.uniform(-0.7, 0.7), length, rng.uniform(0.01, 0.017))
    return strokes(size, np.concatenate(points), np.concatenate(radii))


def _clouds(rng: np.random.Generator, size: int) -> Field:
    """Bright things that are neither thin nor branched."""
    clouds = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        where, radius = rng.uniform(0, 1, 2), rng.uniform(0.06, 0.3)
        shape = outline(rng, size, where, radius, rng.uniform(1, 2), rng.uniform(0, 3), wobble=0.1)
        soft = rise(shape, rng.uniform(-0.6, -0.05), rng.uniform(0.1, 0.9))
        clouds = np.maximum(clouds, rng.uniform(0.1, 0.45) * soft)
    return clouds


def _specks(rng: np.random.Generator, size: int) -> Field:
    """Bright dust."""
    count = int(rng.integers(0, 25))
    if not count:
        return np.zeros((size, size), np.float32)
    drawn = strokes(size, rng.uniform(0, 1, (count, 2)), rng.uniform(0.004, 0.012, count))
    return rise(drawn, -0.8, 0.8)
