"""Images and masks in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qdmerge.errors import ConfigError
from qdmerge_segmentation.data._folder import Sample
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
