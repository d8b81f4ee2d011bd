"""Images and masks in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qdmerge.errors import ConfigError
from qdmerge_segmentation.data._folder import Sample, find_images, find_samples, split_samples
from qdmerge_segmentation.data._pixels import read_image, read_mask

_SHOWN = 5
"""Most problems that one error lists."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """n images with their masks; sizes may differ from image to image.

    Attributes:
        names: File names of the images.
        images: ``(h, w, 3)`` uint8 each, RGB.
        masks: ``(h, w)`` bool each, True is foreground.
    """

    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    masks: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of names, sizes, pixels and masks, in their order."""
        digest = hashlib.sha256()
        for name, image, mask in zip(self.names, self.images, self.masks, strict=True):
            digest.update(repr((name, image.shape, mask.shape)).encode())
            digest.update(image.tobytes())
            digest.update(np.packbits(mask).tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """Per image, 12 hex digits of the SHA-256 of its size and pixels."""
        return tuple(
            hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:12]
            for image in self.images
        )


def load_set(
    samples: Sequence[Sample],
    classes: Collection[int] | None,
    known: Collection[int] | None = None,
) -> ImageSet:
    """Read images and masks.

    Args:
        samples: What to read.
        classes: See :func:`read_mask`.
        known: See :func:`read_mask`.

    Raises:
        ConfigError: Files cannot be used, or the size of a mask differs from its image's; the
            first few problems, one a line.
    """

    def read(sample: Sample) -> tuple[np.ndarray, np.ndarray] | str:
        try:
            image, mask = read_image(sample.image), read_mask(sample.mask, classes, known)
        except ConfigError as error:
            return str(error)
        if image.shape[:2] != mask.shape:
            (h, w), (mask_h, mask_w) = image.shape[:2], mask.shape
            return (
                f"{sample.mask}: the mask is {mask_w} x {mask_h} pixels (width x height), its "
                f"image {sample.file} {w} x {h}"
            )
        return image, mask

    with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter's lock while decoding
        results = list(pool.map(read, samples))
    problems = [result for result in results if isinstance(result, str)]
    if len(problems) > _SHOWN:
        problems[_SHOWN:] = [f"... and {len(problems) - _SHOWN} more of {len(samples)} images"]
    if problems:
        raise ConfigError("\n".join(problems))
    pairs = [result for result in results if not isinstance(result, str)]
    return ImageSet(
        tuple(sample.file for sample in samples),
        tuple(image for image, _ in pairs),
        tuple(mask for _, mask in pairs),
    )


def load_unlabeled(folder: Path, limit: int | None = None) -> ImageSet:
    """Read images that have no masks; theirs are empty.

    Args:
        folder: Holds the images; see :func:`find_images`.
        limit: Most images to read; None for all.

    Raises:
        ConfigError: There are none, or one cannot be read.
    """
    paths = find_images(folder)[:limit]
    images = tuple(map(read_image, paths))
    masks = tuple(np.zeros(image.shape[:2], bool) for image in images)
    return ImageSet(tuple(path.name for path in paths), images, masks)


@dataclass(frozen=True)
class ImageFolder:
    """The images of one task: their folder, what is foreground in their masks, and their splits.

    Attributes:
        path: Folder with ``images/`` and ``masks/``; see :func:`find_samples`.
        classes: Values of an index mask that are foreground; None for binary masks.
        known: Values that an index mask may hold besides; None for any.
        fractions: Split to its share of the images, in the order of the splits.
        seed: Decides which group falls into which split.
        limits: Split to the most images of it to use; all where a split is not named.
    """

    path: Path
    classes: tuple[int, ...] | None
    known: tuple[int, ...] | None
    fractions: Mapping[str, float]
    seed: int
    limits: Mapping[str, int]

    def samples(self) -> dict[str, list[Sample]]:
        """Return the images by split, unread; path, fractions and seed alone decide them.

        Raises:
            ConfigError: The folder is wrong, or a split would be empty.
        """
        parts = split_samples(find_samples(self.path), self.fractions, self.seed)
        return {split: parts[split][: self.limits.get(split)] for split in self.fractions}

    def read(self, split: str, limit: int | None = None) -> ImageSet:
        """Read the images and masks of a split.

        Args:
            split: Name of the split.
            limit: Most images to read; None for all.

        Raises:
            ConfigError: See :meth:`samples`; or an image or mask cannot be used.
        """
        return load_set(self.samples()[split][:limit], self.classes, self.known)
