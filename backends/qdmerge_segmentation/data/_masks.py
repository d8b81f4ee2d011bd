"""Reads masks: which pixels are foreground."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from qdmerge.errors import ConfigError
from qdmerge_segmentation.data._files import open_pixels

_FULL = (1, 255, 65535)
# Writing 0 and 255 as JPEG of quality 75 (Pillow's default) moved no pixel of the vessel masks
# by more than 45.
_JPEG_ERROR = 63


def read_mask(
    path: Path, classes: Collection[int] | None, known: Collection[int] | None = None
) -> np.ndarray:
    """Reads a mask: PNG, JPEG or TIFF; grey, palette, or three equal channels.

    A binary mask holds 0 and one other value, 1, 255 or 65535; either may be absent. In a palette
    the colors count, not the indices. As JPEG changes values a little, a binary JPEG may hold
    values up to 63 away from 0 and 255, which are cut at one half; without a value of 192 or more
    it must be all 0.

    An index mask holds a class at each pixel: the index of a palette, or the grey value (of
    fewer than 8 bits, on the scale of 8 bits, as PNG defines it). JPEG cannot hold one.

    Args:
        path: File of the mask.
        classes: Values of an index mask that are foreground; None for a binary mask.
        known: Values that an index mask may hold besides 0 and ``classes``; None for any.

    Returns:
        ``(h, w)`` bool, True where there is foreground; the rows as the file stores them.

    Raises:
        ConfigError: The file cannot be read (see :func:`read_image`), is in color, transparent in
            places, or holds other values.
    """
    image, bits = open_pixels(path)
    if classes is None:
        return _binary(path, image, bits)
    if not _exact(image):
        raise ConfigError(f"{path}: JPEG does not keep the values of an index mask; use PNG")
    if image.mode == "1":
        raise ConfigError(
            f"{path}: a mask of 1 bit has no classes; leave out 'classes' if all masks are binary"
        )
    values = np.asarray(image) if image.mode == "P" else _grey(path, image, bits)
    if known is not None:
        allowed = np.isin(values, [0, *classes, *known])
        if not allowed.all():
            raise ConfigError(
                f"{path}: holds {_listed(values[~allowed])}, neither 0 nor a class of the task; "
                "name those that are right among its 'classes' or 'other_classes'"
            )
    return np.isin(values, list(classes))


def _binary(path: Path, image: Image.Image, bits: int) -> np.ndarray:
    values = _grey(path, image, bits)
    top = values.max()
    if not _exact(image):
        near = (values <= _JPEG_ERROR) | (values >= 255 - _JPEG_ERROR)
        if top and (top <= _JPEG_ERROR or not near.all()):
            raise ConfigError(
                f"{path}: holds {_listed(values)}; a JPEG mask must be near 0 or 255 everywhere, "
                "save it as PNG of 0 and 255"
            )
        return values > 127
    if (top and top not in _FULL) or not np.isin(values, [0, top]).all():
        raise ConfigError(
            f"{path}: holds {_listed(values)}, not just 0 and the maximum (1, 255 or 65535); "
            "if it is an index mask, name its foreground in the task: classes: [...]"
        )
    return values > 0


def _exact(image: Image.Image) -> bool:
    """Whether the format keeps values; if not, it is JPEG by one of its names."""
    return image.format in ("PNG", "TIFF")


def _grey(path: Path, image: Image.Image, bits: int) -> np.ndarray:
    """The values of a mask, ``(h, w)``: its only channel, or one of three that are equal."""
    if image.mode in ("1", "L", "I") or image.mode.startswith("I;16"):
        return np.asarray(image.convert("L") if image.mode == "1" else image).astype(np.int32)
    if image.mode == "P":
        image = image.convert("RGB")
    if image.mode not in ("LA", "RGB", "RGBA"):
        raise ConfigError(f"{path}: a mask of mode {image.mode}; save it as 8-bit grey PNG")
    if bits > 8:
        raise ConfigError(f"{path}: a mask of 16-bit colors; save it as 8- or 16-bit grey PNG")
    channels = np.asarray(image).astype(np.int32)
    if image.mode.endswith("A"):
        if (channels[:, :, -1] != 255).any():
            raise ConfigError(
                f"{path}: the mask is transparent in places, so that it is not clear which "
                "channel means the foreground; save it as 8-bit grey PNG"
            )
        channels = channels[:, :, :-1]
    if (channels != channels[:, :, :1]).any():
        raise ConfigError(
            f"{path}: the mask is in color; save it as grey PNG of 0 and 255, or as index mask "
            "and name its foreground in the task: classes: [...]"
        )
    return channels[:, :, 0]


def _listed(values: np.ndarray, limit: int = 4) -> str:
    found = np.unique(values)
    text = ", ".join(map(str, found[:limit].tolist()))
    if len(found) == 1:
        return f"the value {text}"
    return f"the values {text}" + (f", ... ({len(found)} in all)" if len(found) > limit else "")
