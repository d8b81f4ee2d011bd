"""Opens image files, and refuses what would be read wrongly."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from qdmerge.errors import ConfigError

_ORIENTATION, _BITS, _PHOTOMETRIC, _PLANAR = 274, 258, 262, 284  # tags of EXIF and TIFF


def open_pixels(path: Path) -> tuple[ImageFile, int]:
    """Reads an image file completely.

    Returns:
        The image, its pixels in memory, and the bits of a channel in the file (Pillow keeps the
        high byte alone of 16-bit colors).

    Raises:
        ConfigError: The file is missing, damaged, no PNG, JPEG or TIFF, or holds what Pillow would
            read wrongly or what can be understood in two ways.
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
    except Exception as error:  # what damaged data make decoders raise has no common base
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise ConfigError(f"{path}: cannot be read ({reason})") from error
    if problem:
        raise ConfigError(f"{path}: {problem}")
    return image, bits


def _bits(image: ImageFile) -> int:
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(_BITS, (1,)))
    return 16 if "16" in str(image.tile[0][3]) else 8  # the tile's raw mode: "RGB;16B"


def _problem(image: ImageFile, bits: int) -> str | None:
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation not in (0, 1):  # 0 is not defined, but written, for "none"
        return (
            f"its EXIF orientation is {orientation}, so that programs disagree about which way up "
            "it is, and whether its mask is turned alike; turn the pixels and drop the tag"
        )
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
