"""Thin shapes, bright or dark.

- skeleton: thin branching structures, a little brighter than what lies around them
- crack: thin dark lines in rough pale stone, among bright scratches, dark stains and pits; the
  opposite of a skeleton, whose bright lines are not meant here
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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


def skeleton(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], Mask]:
    """Draw an image (size, size, 3) and the mask (size, size) of its branching structures."""
    depth = draw_until(lambda: _trees(rng, size), 0.04, 0.22)
    brightness = rng.uniform(0.1, 0.35) + rng.uniform(0.03, 0.1) * noise(rng, size, 0.2)
    brightness = brightness + rng.uniform(0.01, 0.03) * noise(rng, size, 0.02)
    brightness = brightness + _blobs(rng, size, (0.06, 0.3), (0.1, 0.45))
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


def _blobs(
    rng: np.random.Generator, size: int, radii: tuple[float, float], strengths: tuple[float, float]
) -> Field:
    """One to four soft things that are neither thin nor branched."""
    blobs = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        where, radius = rng.uniform(0, 1, 2), rng.uniform(*radii)
        shape = outline(rng, size, where, radius, rng.uniform(1, 2), rng.uniform(0, 3), wobble=0.1)
        soft = rise(shape, rng.uniform(-0.6, -0.05), rng.uniform(0.1, 0.9))
        blobs = np.maximum(blobs, rng.uniform(*strengths) * soft)
    return blobs


def _specks(rng: np.random.Generator, size: int) -> Field:
    """Bright dust."""
    count = int(rng.integers(0, 25))
    if not count:
        return np.zeros((size, size), np.float32)
    drawn = strokes(size, rng.uniform(0, 1, (count, 2)), rng.uniform(0.004, 0.012, count))
    return rise(drawn, -0.8, 0.8)


def crack(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], Mask]:
    """Draw an image (size, size, 3) and the mask (size, size) of its cracks."""
    depth = draw_until(lambda: _cracks(rng, size), 0.025, 0.16)
    brightness = rng.uniform(0.4, 0.75) + rng.uniform(0.03, 0.09) * noise(rng, size, 0.2)
    brightness = brightness + rng.uniform(0.03, 0.06) * noise(rng, size, 0.02)
    brightness = brightness - _stains(rng, size)
    brightness = brightness + rng.uniform(0.1, 0.25) * _scratches(rng, size)
    strength = rng.uniform(0.14, 0.3) * np.clip(1 + 0.35 * noise(rng, size, 0.06), 0.45, 1.8)
    opened = rise(depth, -0.8, 0.8)
    lit = ndimage.shift(opened, rng.choice([-1.5, 1.5], 2) * size / 128, order=1) * (1 - opened)
    brightness = brightness - strength * opened + 0.3 * strength * lit
    tint = color(rng, (0.9, 0.85, 0.75), (1.1, 1.1, 1.1))
    picture = np.clip(brightness, 0.02, 1)[..., None] ** (1 / tint)
    return photograph(rng, picture, blur=rng.uniform(0.3, 0.6), grain=0.03), depth > 0


def _cracks(rng: np.random.Generator, size: int) -> Field:
    """One or two ragged lines that run across the image, each with a few forks."""
    points: list[NDArray[np.float64]] = []
    radii: list[NDArray[np.float64]] = []
    for _ in range(int(rng.integers(1, 3))):
        start = rng.uniform(0.1, 0.9, 2)
        start[int(rng.integers(2))] = rng.choice([-0.01, 1.01])
        inwards = np.arctan2(*(0.5 - start)[::-1]) + rng.uniform(-0.5, 0.5)
        path, directions = curve(rng, start, inwards, rng.uniform(0.8, 1.4), bend=0.16)
        lines = [path]
        for _ in range(int(rng.integers(0, 5))):
            at = int(rng.uniform(0.15, 0.85) * len(path))
            side = rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
            fork, _ = curve(rng, path[at], directions[at] + side, rng.uniform(0.15, 0.5), bend=0.2)
            lines.append(fork)
        wide = rng.uniform(0.008, 0.016)
        for line in lines:
            ragged = ndimage.gaussian_filter1d(rng.standard_normal(len(line)), 2)
            points.append(line)
            radii.append(wide * np.clip(1 + 0.8 * ragged, 0.5, 1.6))
            wide = min(wide, rng.uniform(0.006, 0.012))
    return strokes(size, np.concatenate(points), np.concatenate(radii))


def _scratches(rng: np.random.Generator, size: int) -> Field:
    """Bright lines, as thin as the cracks."""
    count = int(rng.integers(0, 5))
    if not count:
        return np.zeros((size, size), np.float32)
    lines = [
        curve(rng, rng.uniform(0, 1, 2), rng.uniform(0, 7), rng.uniform(0.3, 1.0), bend=0.12)[0]
        for _ in range(count)
    ]
    radii = [np.full(len(line), rng.uniform(0.005, 0.012)) for line in lines]
    return rise(strokes(size, np.concatenate(lines), np.concatenate(radii)), -0.8, 0.8)


def _stains(rng: np.random.Generator, size: int) -> Field:
    """How much darker it is on damp places and in pits, which are not thin and long."""
    dark = _blobs(rng, size, (0.05, 0.25), (0.08, 0.3))
    count = int(rng.integers(5, 40))
    pits = strokes(size, rng.uniform(0, 1, (count, 2)), rng.uniform(0.004, 0.014, count))
    return dark + rng.uniform(0.1, 0.25) * rise(pits, -0.8, 0.8)
