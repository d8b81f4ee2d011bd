"""Focus: the one place of a picture that is sharp, whatever is to be seen there.

Objects, colors and textures cross the border of the sharp place, so that only the presence of fine
detail tells: an edge of an object is no edge of the foreground.
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
    draw_until,
    gradient_colors,
    noise,
    outline,
    photograph,
    ranks,
    rise,
)

SHARE = (0.06, 0.34)
"""Smallest and largest share of the image that is sharp."""


def generate(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint8], Mask]:
    """Draw an image (size, size, 3) and the mask (size, size) of its sharp place."""
    shape = draw_until(lambda: _place(rng, size), *SHARE)
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
