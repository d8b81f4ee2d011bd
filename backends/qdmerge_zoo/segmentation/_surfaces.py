"""Things on a surface.

- polyp: a soft-edged dome with highlights on a reddish surface full of folds
- leaf: dead spots on a veined leaf, before a ground that has their colors
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdmerge_zoo.segmentation._textures import (
    Field,
    Mask,
    Picture,
    blend,
    cells,
    color,
    coordinates,
    curve,
    draw_until,
    gradient_colors,
    noise,
    outline,
    photograph,
    ranks,
    relief,
    rise,
    strokes,
    turned,
)

_BLOOD = np.array([0.8, 0.5, 0.5])


def polyp(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], Mask]:
    """Draw an image (size, size, 3) and the mask (size, size) of its polyp."""
    frame = _frame(rng, size)
    shape = draw_until(lambda: np.where(frame > 0, _lump(rng, size), -1.0), 0.03, 0.35)
    folds, depth = _folds(rng, size)
    dome = np.sqrt(np.clip(shape, 0, 1)) * rise(shape, -0.1, 0.5)
    height = folds * (1 - 0.9 * rise(shape, -0.2, 0.3))
    height += rng.uniform(0.06, 0.14) * dome + 0.0012 * noise(rng, size, 0.04)
    light = relief(height, rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.9))
    crease = rise(shape, -0.3, -0.02) * (1 - rise(shape, 0.02, 0.45))
    light = light * (1 - rng.uniform(0.1, 0.4) * crease)

    flesh = color(rng, (0.60, 0.27, 0.20), (0.86, 0.56, 0.42))
    picture = flesh * (1 + 0.07 * noise(rng, size, 0.08))[..., None]
    picture = blend(picture, picture * _BLOOD, _vessels(rng, size))
    tint = flesh * rng.uniform(0.88, 1.12) * color(rng, (1.0, 0.8, 0.82), (1.0, 1.1, 1.1))
    mottled = 0.55 + 0.15 * noise(rng, size, 0.04)
    picture = blend(picture, tint, rise(shape, -0.08, 0.3) * np.clip(mottled, 0, 1))
    picture = picture * (light * depth)[..., None]
    picture = blend(picture, (1.0, 0.97, 0.92), _highlights(rng, light, shape, frame))
    picture = picture * rise(frame, 0.0, 0.02)[..., None]
    return photograph(rng, picture, blur=rng.uniform(0.5, 1.0)), shape > 0


def _frame(rng: np.random.Generator, size: int) -> Field:
    """Positive in the window of the endoscope: everything, or a square with cut corners."""
    x, y = coordinates(size)
    if rng.random() < 0.5:
        return np.ones((size, size), np.float32)
    across, down = np.abs(x - 0.5), np.abs(y - 0.5)
    half = rng.uniform(0.44, 0.5)
    corner = half * rng.uniform(1.45, 1.7)
    return np.minimum(half - np.maximum(across, down), corner - across - down)


def _lump(rng: np.random.Generator, size: int) -> Field:
    """One round or long lump, sometimes with a second one grown into it."""
    center = rng.uniform(0.22, 0.78, 2)
    radius, angle = rng.uniform(0.1, 0.3), rng.uniform(0, np.pi)
    lump = outline(rng, size, center, radius, rng.uniform(1, 1.9), angle, wobble=0.09, waves=4)
    if rng.random() < 0.3:
        aside = center + rng.uniform(-0.7, 0.7, 2) * radius
        other = outline(rng, size, aside, radius * rng.uniform(0.5, 0.8), wobble=0.08, waves=3)
        lump = np.maximum(lump, other)
    return lump


def _folds(rng: np.random.Generator, size: int) -> tuple[Field, Field]:
    """Ridges around the dark lumen: their height, and the light that reaches each place."""
    x, y = coordinates(size)
    center = rng.uniform(0.0, 1.0, 2)
    distance = np.hypot(x - float(center[0]), y - float(center[1]))
    distance = np.maximum(distance + 0.04 * noise(rng, size, 0.16), 0)
    phase = rng.uniform(3.0, 7.0) * np.sqrt(distance + 0.02) + rng.uniform(0, 1)
    strength = rise(noise(rng, size, 0.2), -1.0, 1.0)
    ridges = strength * (1 - np.abs(2 * (phase % 1) - 1)) ** 2
    height = rng.uniform(0.03, 0.08) * ridges + rng.uniform(0.0, 0.02) * noise(rng, size, 0.13)
    darkness = rng.uniform(0.3, 0.9)
    depth = 1 - darkness * (1 - rise(distance, 0.02, rng.uniform(0.25, 0.6)))
    return height, depth


def _vessels(rng: np.random.Generator, size: int) -> Field:
    """Faint fine vessels."""
    points, radii = [], []
    for _ in range(int(rng.integers(0, 6))):
        path, _ = curve(rng, rng.uniform(0, 1, 2), rng.uniform(0, 7), rng.uniform(0.3, 0.8), 0.25)
        points.append(path)
        radii.append(np.full(len(path), rng.uniform(0.003, 0.007)))
    if not points:
        return np.zeros((size, size), np.float32)
    drawn = strokes(size, np.concatenate(points), np.concatenate(radii))
    return rng.uniform(0.2, 0.5) * rise(drawn, -0.8, 0.8)


def _highlights(rng: np.random.Generator, light: Field, shape: Field, frame: Field) -> Field:
    """Where the wet surface mirrors the lamp: on the brightest slopes, polyp or not."""
    size = len(light)
    bright = light + 0.2 * rise(shape, 0.2, 0.8) + 0.12 * noise(rng, size, 0.025)
    bright = np.where(frame > 0, bright, -1.0)
    edge = float(np.quantile(bright, rng.uniform(0.97, 0.997)))
    return rise(bright, edge, edge + 0.08)


def leaf(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], Mask]:
    """Draw an image (size, size, 3) and the mask (size, size) of the spots on its leaf."""
    angle = rng.uniform(0, 2 * np.pi)
    leaf = draw_until(lambda: _blade(rng, size, angle), 0.45, 1.0)
    spots = draw_until(lambda: np.minimum(_spots(rng, size), leaf), 0.02, 0.25)
    green = _surface(rng, size, angle)
    dead = color(rng, (0.32, 0.20, 0.10), (0.72, 0.60, 0.45))
    rim = dead * rng.uniform(0.45, 0.9)
    halo = color(rng, (0.60, 0.58, 0.15), (0.85, 0.80, 0.35))
    yellowing = rng.uniform(0.0, 0.5) * rise(noise(rng, size, 0.12), 0.3, 1.6)
    picture = blend(green, halo, yellowing)
    picture = blend(picture, halo, rng.uniform(0.1, 0.6) * rise(spots, -0.8, -0.05))
    inner = rim + rise(spots, 0.05, 0.5)[..., None] * (dead - rim)
    inner = inner * (1 + 0.14 * noise(rng, size, 0.015))[..., None]
    picture = blend(picture, inner, rng.uniform(0.7, 0.95) * rise(spots, -0.08, 0.08))
    shadow = 1 - rng.uniform(0.0, 0.6) * rise(leaf, -0.2, 0.0)
    picture = blend(_ground(rng, size) * shadow[..., None], picture, rise(leaf, -0.01, 0.01))
    light = 1 + rng.uniform(0.05, 0.2) * noise(rng, size, 0.25)
    light = light - rng.uniform(0.0, 0.4) * rise(noise(rng, size, 0.2), 0.4, 0.7)
    return photograph(rng, picture * light[..., None], blur=rng.uniform(0.3, 0.7)), spots > 0


def _blade(rng: np.random.Generator, size: int, angle: float) -> Field:
    """Positive on the leaf, which fills the image or most of it."""
    center, radius = rng.uniform(0.3, 0.7, 2), rng.uniform(0.36, 0.8)
    return outline(rng, size, center, radius, rng.uniform(1, 1.8), angle, wobble=0.05)


def _surface(rng: np.random.Generator, size: int, angle: float) -> Picture:
    """Green with a midrib, side veins and a net of fine ones."""
    x, y = coordinates(size)
    bend = 0.04 * noise(rng, size, 0.25)
    along, across = turned(x - 0.5, y - 0.5, angle)
    away = np.abs(across + bend + rng.uniform(-0.25, 0.25))
    spacing, slant = rng.uniform(0.12, 0.22), rng.uniform(0.5, 1.2)
    beside = np.abs((along - slant * away) / spacing % 1 - 0.5) * spacing
    _, border, _ = cells(rng, size, int(rng.integers(150, 500)))
    veins = 0.8 * (1 - rise(away, 0.004, 0.022))
    veins = np.maximum(veins, 0.6 * (1 - rise(beside, 0.002, 0.013)))
    veins = np.maximum(veins, rng.uniform(0.1, 0.5) * (1 - rise(border, 0.05, 0.3)))
    base = color(rng, (0.10, 0.26, 0.08), (0.50, 0.62, 0.30))
    mottled = 1 + 0.08 * noise(rng, size, 0.03) + 0.08 * noise(rng, size, 0.1)
    vein = np.clip(base * rng.choice([0.6, 1.35, 1.5]) + 0.04, 0, 1)
    return blend(base * mottled[..., None], vein, veins)


def _spots(rng: np.random.Generator, size: int) -> Field:
    """Few large or many small irregular spots; 0 on their edges."""
    typical, count = rng.uniform(0.025, 0.07), int(rng.integers(2, 12))
    field = np.full((size, size), -9.0, np.float32)
    for _ in range(count):
        radius = typical * rng.uniform(0.6, 1.6)
        where = rng.uniform(0.04, 0.96, 2)
        spot = outline(
            rng, size, where, radius, rng.uniform(1, 1.5), rng.uniform(0, 3), wobble=0.18
        )
        field = np.maximum(field, spot)
    return field


def _ground(rng: np.random.Generator, size: int) -> Picture:
    """Soil, litter or stone."""
    dark = color(rng, (0.15, 0.10, 0.06), (0.40, 0.32, 0.24))
    light = color(rng, (0.45, 0.35, 0.22), (0.75, 0.68, 0.55))
    rough = noise(rng, size, 0.05) + 0.7 * noise(rng, size, 0.015, stretch=2, angle=1.0)
    levels = ranks(rough, np.ones((size, size), bool))
    return gradient_colors(levels, np.stack([dark, light]))
