"""The images of the tasks: drawn from a seed, and written as folders of images and masks."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qdmerge_zoo.segmentation._hidden import camouflage, focus
from qdmerge_zoo.segmentation._surfaces import leaf, polyp
from qdmerge_zoo.segmentation._thin import crack, skeleton

Pair = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""An image (size, size, 3) and its mask (size, size)."""

GENERATORS: Mapping[str, Callable[[np.random.Generator, int], Pair]] = {
    "camouflage": camouflage,
    "polyp": polyp,
    "skeleton": skeleton,
    "leaf": leaf,
    "crack": crack,
    "focus": focus,
}
"""For each task, what draws an image with so many pixels a side."""
ALL_TASKS: tuple[str, ...] = tuple(GENERATORS)
"""Every generated task; a zoo has the first four or all six of them."""
TASKS: tuple[str, ...] = ALL_TASKS[:4]
"""The tasks of the default zoo."""


def generate(task: str, index: int, seed: int = 0, size: int = 128) -> Pair:
    """Draw image number ``index`` of a task; the same arguments give the same pixels.

    Returns:
        The image (size, size, 3) and its mask (size, size), which is never empty.
    """
    rng = np.random.default_rng([seed, ALL_TASKS.index(task), index])
    return GENERATORS[task](rng, size)


def write_images(
    task: str, count: int, seed: int, size: int, folder: Path, done: Callable[[], None]
) -> None:
    """Write the first images of a task, ``size`` pixels a side, each a group of its own, as
    ``images/``, ``masks/`` and ``index.csv`` into a new ``folder``; call ``done`` after each.
    """
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    names = [f"{index:04d}.png" for index in range(count)]
    for index, name in enumerate(names):
        image, mask = generate(task, index, seed, size)
        Image.fromarray(image).save(folder / "images" / name, compress_level=1)
        Image.fromarray(mask * np.uint8(255)).save(folder / "masks" / name)
        done()
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["file", "source", "group"])
        rows.writerows([name, f"generated, seed {seed}", Path(name).stem] for name in names)
