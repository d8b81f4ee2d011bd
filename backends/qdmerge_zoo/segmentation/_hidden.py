"""Things that no color tells.

- camouflage: an animal-like object in a texture of its own statistics. Object and surroundings are
  samples of one kind of texture with one palette, and each has the same share of every level: the
  object shows in the scale and direction of its texture, in a faint rim and shadow, and in the
  light on a rounded body
- focus: the one place of a picture that is sharp, whatever is to be seen there. Objects, colors and
  textures cross its border, so that an edge of an object is no edge of the foreground
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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
    rise,
    strokes,
    turned,
)


def camouflage(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], Mask]:
    """Draw an image (size, size, 3) and the mask (size, size) of its object."""
    body = draw_until(lambda: _animal(rng, size), 0.05, 0.32)
    mask = body > 0
    kind = _KINDS[int(rng.integers(len(_KINDS)))]
    scale, angle = rng.uniform(0.016, 0.034), rng.uniform(0, np.pi)
    around = kind(rng, size, scale, angle)
    turn = rng.uniform(0.3, 0.5) * np.pi * rng.choice([-1, 1])
    inside = kind(rng, size, scale * rng.choice([0.6, 0.7, 1.45]), angle + turn)
    levels = np.where(mask, ranks(inside, mask), ranks(around, ~mask))
    picture = gradient_colors(levels, _palette(rng))
    light = 1 + rng.uniform(0.04, 0.14) * noise(rng, size, 0.12) + _roundness(rng, mask)
    return photograph(rng, picture * light[..., None], blur=rng.uniform(0.4, 0.8)), mask


def _roundness(rng: np.random.Generator, mask: Mask) -> Field:
    """Lighter and darker places that a body has, and the shadow it casts."""
    side = len(mask) / 128
    body = ndimage.gaussian_filter(mask.astype(np.float32), 2.0 * side)
    wide = ndimage.gaussian_filter(body, 6.0 * side)
    angle = rng.uniform(0, 2 * np.pi)
    shift = 3.0 * side * np.array([np.sin(angle), np.cos(angle)])
    shadow = ndimage.shift(body, shift, order=1) * (1 - body)
    lit = wide - ndimage.shift(wide, shift, order=1)
    rim = 4 * body * (1 - body)
    strengths = rng.uniform([0.1, 0.3, 0.6], [0.35, 0.7, 1.3])
    return np.asarray(strengths @ np.stack([-rim, -shadow, lit]).reshape(3, -1)).reshape(mask.shape)


def _animal(rng: np.random.Generator, size: int) -> Field:
    """A wobbly body, mostly with a head, limbs or a tail."""
    center = rng.uniform(0.25, 0.75, 2)
    radius, aspect = rng.uniform(0.12, 0.24), rng.uniform(1.0, 2.2)
    angle = rng.uniform(0, 2 * np.pi)
    body = outline(rng, size, center, radius, aspect, angle, wobble=0.16)
    if rng.random() < 0.7:
        ahead = np.array([np.cos(angle), np.sin(angle)]) * radius * aspect**0.5
        head = outline(rng, size, center + ahead, radius * rng.uniform(0.4, 0.6), wobble=0.1)
        body = np.maximum(body, head)
    for _ in range(int(rng.integers(0, 6))):
        away = angle + rng.choice([-1, 1]) * rng.uniform(0.6, 2.6)
        points, _ = curve(rng, center, away, radius * rng.uniform(1.2, 1.9), bend=0.1)
        thin = np.linspace(0.035, 0.014, len(points)) * rng.uniform(0.8, 1.3)
        body = np.maximum(body, strokes(size, points, thin) / (0.1 * size))
    return body


def _palette(rng: np.random.Generator) -> NDArray[np.float64]:
    """Earthy colors from dark to light, one hue drifting into another."""
    hues = np.array(
        [
            [0.46, 0.33, 0.19],
            [0.30, 0.42, 0.20],
            [0.44, 0.44, 0.42],
            [0.58, 0.48, 0.28],
            [0.30, 0.38, 0.42],
        ]
    )
    weights = rng.dirichlet(np.full(len(hues), 0.3), size=2)
    count = int(rng.integers(3, 6))
    drift = np.linspace(0, 1, count)[:, None]
    tints = (1 - drift) * (weights[0] @ hues) + drift * (weights[1] @ hues)
    contrast = rng.uniform(0.35, 0.75)
    brightness = np.linspace(1 - contrast, 1 + contrast, count)[:, None]
    return np.clip(tints * brightness * rng.uniform(0.8, 1.3), 0, 1)


def _grain(rng: np.random.Generator, size: int, scale: float, angle: float) -> Field:
    """Grass, fur or bark."""
    return noise(rng, size, scale, stretch=rng.uniform(2.5, 6.0), angle=angle, band=True)


def _bands(rng: np.random.Generator, size: int, scale: float, angle: float) -> Field:
    """Ripples in sand, or reeds."""
    along, _ = turned(*coordinates(size), angle)
    warp = noise(rng, size, 0.1) * 0.02 + noise(rng, size, 0.04) * 0.004
    waves = np.sin(2 * np.pi * (along + warp) / (3.2 * scale))
    return waves + 0.5 * noise(rng, size, scale / 2)


def _patches(rng: np.random.Generator, size: int, scale: float, angle: float) -> Field:
    """Litter: blotches one above the other, with finer ones on them."""
    coarse = noise(rng, size, 1.6 * scale, stretch=2.0, angle=angle, band=True)
    return np.round(coarse * 1.5) + 0.35 * noise(rng, size, scale / 2)


def _pebbles(rng: np.random.Generator, size: int, scale: float, angle: float) -> Field:
    """Gravel: stones of a brightness of their own, dark between them."""
    count = int(np.clip(0.06 / scale**2, 60, 200))
    near, border, number = cells(rng, size, count)
    stones = rng.uniform(-0.5, 0.5, int(number.max()) + 1)[number]
    dome = np.minimum(border * 2.5, 1) - 0.4 * near
    return stones + dome + 0.15 * noise(rng, size, 0.01)


_KINDS = (_grain, _bands, _patches, _pebbles)


def focus(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], Mask]:
    """Draw an image (size, size, 3) and the mask (size, size) of its sharp place."""
    shape = draw_until(lambda: _place(rng, size), 0.06, 0.34)
    scene = _scene(rng, size)
    sigma = rng.uniform(0.012, 0.024) * size
    blurred = ndimage.gaussian_filter(scene, (sigma, sigma, 0), mode="reflect")
    picture = blurred + rise(shape, -0.06, 0.06)[..., None] * (scene - blurred)
    return photograph(rng, picture, blur=rng.uniform(0.3, 0.6), grain=0.015), shape > 0


def _place(rng: np.random.Generator, size: int) -> Field:
    """A smooth blob, sometimes long."""
    center, radius = rng.uniform(0.2, 0.8, 2), rng.uniform(0.14, 0.32)
    angle = rng.uniform(0, np.pi)
    return outline(rng, size, center, radius, rng.uniform(1, 2), angle, wobble=0.12, waves=4)


def _scene(rng: np.random.Generator, size: int) -> Picture:
    """Fields of colors, blobs before them, and fine texture on everything."""
    everywhere = np.ones((size, size), bool)
    palette = np.stack([color(rng, (0.1, 0.1, 0.1), (0.9, 0.9, 0.9)) for _ in range(3)])
    _, _, number = cells(rng, size, int(rng.integers(6, 40)))
    levels = rng.uniform(0, 1, int(number.max()) + 1)[number]
    picture = gradient_colors(np.asarray(levels + 0.1 * noise(rng, size, 0.1)), palette)
    for _ in range(int(rng.integers(1, 6))):
        where, radius = rng.uniform(0, 1, 2), rng.uniform(0.04, 0.2)
        blob = outline(rng, size, where, radius, rng.uniform(1, 2), rng.uniform(0, 3), wobble=0.15)
        picture = blend(picture, color(rng, (0.1, 0.1, 0.1), (0.9, 0.9, 0.9)), rise(blob, 0, 0.06))
    stretch, angle = rng.uniform(1, 4), rng.uniform(0, np.pi)
    fine = noise(rng, size, rng.uniform(0.012, 0.02), stretch, angle, band=True)
    strength = rng.uniform(0.25, 0.5) * (1 + 0.5 * np.clip(noise(rng, size, 0.1), -1, 1))
    return np.clip(picture * (1 + strength * (ranks(fine, everywhere) - 0.5))[..., None], 0, 1)
