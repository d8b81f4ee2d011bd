"""Reading image files: pixels as 8-bit RGB, masks as foreground."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from qdmerge.errors import ConfigError

_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
"""Pillow's modes of at most 8 bits a channel that convert to RGB without loss of meaning."""
_FULL = (1, 255, 65535)
"""Values of foreground in binary masks."""
_JPEG_ERROR = 63
"""Greatest change of a value in a JPEG mask. Quality 75, Pillow's default, moved no pixel of the
vessel masks by more than 45."""
_ORIENTATION, _BITS, _PHOTOMETRIC, _PLANAR = 274, 258, 262, 284
"""Tags of EXIF and TIFF."""


def read_image(path: Path) -> np.ndarray:
    """Read an image: PNG, JPEG or TIFF; 1 to 16 bits; grey, palette or RGB.

    Values are scaled by the full range of their type, never by the values that occur: 16 bits keep
    the high byte. Grey becomes three equal channels; transparency is dropped, not blended.

    Returns:
        ``(h, w, 3)`` uint8, the rows as the file stores them.

    Raises:
        ConfigError: The file cannot be read, has an EXIF orientation or several pages, or holds
            32-bit, floating-point, CMYK or Lab pixels, whose range or meaning is not defined.
    """
    image, _ = _open_pixels(path)
    if image.mode in _EIGHT_BIT:
        return np.array(image.convert("RGB"))
    if image.mode.startswith("I;16"):
        high = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2)
    kind = {"F": "floating-point", "I": "32-bit or signed"}.get(image.mode, image.mode)
    raise ConfigError(f"{path}: {kind} pixels; save it as 8- or 16-bit grey or RGB")


def read_mask(
    path: Path, classes: Collection[int] | None, known: Collection[int] | None = None
) -> np.ndarray:
    """Read a mask: PNG, JPEG or TIFF; grey, palette, or three equal channels.

    A binary mask holds 0 and one other value, 1, 255 or 65535; either may be absent. Of a palette
    the colors count, not the indices. JPEG changes values slightly: a binary JPEG may hold values
    up to 63 away from 0 and 255, which are thresholded at one half; without a value of 192 or more
    it must be all 0.

    An index mask holds a class at each pixel: the index of a palette, or the grey value (fewer than
    8 bits are scaled to 8, as PNG defines it). JPEG cannot hold an index mask.

    Args:
        path: File of the mask.
        classes: Values of an index mask that are foreground; None for a binary mask.
        known: Values that an index mask may hold besides 0 and ``classes``; None for any.

    Returns:
        ``(h, w)`` bool, True is foreground; the rows as the file stores them.

    Raises:
        ConfigError: The file cannot be read (see :func:`read_image`), is in color or partly
            transparent, or holds other values.
    """
    image, bits = _open_pixels(path)
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
                "add valid values to its 'classes' or 'other_classes'"
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
    """Return whether the format keeps values; one that does not is JPEG by one of its names."""
    return image.format in ("PNG", "TIFF")


def _grey(path: Path, image: Image.Image, bits: int) -> np.ndarray:
    """Return a mask's values, ``(h, w)``: its only channel, or one of three equal ones."""
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
                f"{path}: the mask is partly transparent, so it is not clear which channel means "
                "the foreground; save it as 8-bit grey PNG"
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


def _open_pixels(path: Path) -> tuple[ImageFile, int]:
    """Read an image file into memory and its bits per channel (of 16-bit colors, Pillow keeps the
    high byte); refuse what Pillow would misread or what is ambiguous.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as image:
            bits = _bits(image)
            problem = _problem(image, bits)
            if problem is None:
                image.load()
    except UnidentifiedImageError:
        raise ConfigError(
            f"{path}: no PNG, JPEG or TIFF that can be read: damaged, or of a kind that Pillow "
            "does not know; save it as 8- or 16-bit PNG"
        ) from None
    except Exception as error:  # decoders raise anything on damaged data
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise ConfigError(f"{path}: cannot be read ({reason})") from error
    if problem:
        raise ConfigError(f"{path}: {problem}")
    return image, bits


def _bits(image: ImageFile) -> int:
    from PIL.TiffImagePlugin import TiffImageFile  # slow to import

    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(_BITS, (1,)))
    return 16 if "16" in str(image.tile[0][3]) else 8  # the tile's raw mode: "RGB;16B"


def _problem(image: ImageFile, bits: int) -> str | None:
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation not in (0, 1):  # 0 is not defined, but means "none" in practice
        return (
            f"its EXIF orientation is {orientation}: programs disagree about which way up it is, "
            "and whether its mask is turned alike; rotate the pixels and drop the tag"
        )
    from PIL.TiffImagePlugin import TiffImageFile

    if not isinstance(image, TiffImageFile):
        return None
    if image.n_frames > 1:
        return f"holds {image.n_frames} pages; save each as a file of its own"
    tags = image.tag_v2
    if bits not in (1, 2, 4, 8, 16, 32):
        return f"{bits} bits a channel; save it with 8 or 16"
    if bits == 16 and (tags.get(_PLANAR, 1) != 1 or tags.get(_PHOTOMETRIC) == 0):
        return "16-bit TIFF with separate color planes or white as 0; save it as PNG"
    return None
