"""Images and their masks: from folders to splits to memory. Nothing here needs torch.

- :func:`find_samples`: find the images of a folder and their masks, by name.
- :func:`split_samples`: split them by group, never by image.
- :class:`ImageFolder`: a folder, what is foreground in its masks, and how it is split.
- :func:`load_set`: read and check images and masks.
- :func:`find_images`, :func:`load_unlabeled`: images without masks.
- :func:`read_image`, :func:`read_mask`: read one file.
"""

from __future__ import annotations

from qdmerge_segmentation.data._folder import (
    SUFFIXES,
    Sample,
    find_images,
    find_samples,
    split_samples,
)
from qdmerge_segmentation.data._pixels import read_image, read_mask
from qdmerge_segmentation.data._set import ImageFolder, ImageSet, load_set, load_unlabeled

__all__ = [
    "SUFFIXES",
    "ImageFolder",
    "ImageSet",
    "Sample",
    "find_images",
    "find_samples",
    "load_set",
    "load_unlabeled",
    "read_image",
    "read_mask",
    "split_samples",
]
