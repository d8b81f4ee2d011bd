"""Images and their masks: from folders to splits to memory.

- :func:`find_samples`: the images of a folder with their masks, by name; reads no pixels.
- :func:`split_samples`: which of them train, and which are scored; by group, never by image.
- :func:`load_set`: reads images and masks, all checks included.
- :func:`read_image`, :func:`read_mask`: one file, and what may be in it.

Nothing here needs torch.
"""

from __future__ import annotations

from qdmerge_segmentation.data._folder import SUFFIXES, Sample, find_samples
from qdmerge_segmentation.data._images import read_image
from qdmerge_segmentation.data._masks import read_mask
from qdmerge_segmentation.data._set import ImageSet, load_set
from qdmerge_segmentation.data._splits import split_samples

__all__ = [
    "SUFFIXES",
    "ImageSet",
    "Sample",
    "find_samples",
    "load_set",
    "read_image",
    "read_mask",
    "split_samples",
]
