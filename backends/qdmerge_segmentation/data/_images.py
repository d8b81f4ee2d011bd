"""Reads images as 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qdmerge.errors import ConfigError
from qdmerge_segmentation.data._files import open_pixels

_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


def read_image(path: Path) -> np.ndarray:
    """Reads an image: PNG, JPEG or TIFF; 1 to 16 bits; grey, palette or RGB.

    Values are scaled by the full range of their type, never by those that occur: of 16 bits the
    high byte is kept, and 0 and 65535 become 0 and 255. Grey becomes three equal channels;
    transparency is dropped, not blended.

    Returns:
        ``(h, w, 3)`` uint8, the rows as the file stores them.

    Raises:
        ConfigError: The file cannot be read, has an EXIF orientation or several pages, or holds
            32-bit, floating-point, CMYK or Lab pixels, whose range or meaning the file leaves open.
    """
    image, _ = open_pixels(path)
    if image.mode in _EIGHT_BIT:
        return np.array(image.convert("RGB"))
    if image.mode.startswith("I;16"):
        high = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)
    kind = {"F": "floating-point", "I": "32-bit or signed"}.get(image.mode, image.mode)
    raise ConfigError(f"{path}: {kind} pixels; save it as 8- or 16-bit grey or RGB")
