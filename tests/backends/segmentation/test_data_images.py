"""Images and masks in every format that is read, really written; and in those that are refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qdmerge.errors import ConfigError
from qdmerge_segmentation.data import read_image, read_mask

RNG = np.random.default_rng(0)
GREY16 = RNG.integers(0, 65536, (5, 6), dtype=np.uint16)
RGB16 = RNG.integers(0, 65536, (5, 6, 3), dtype=np.uint16)
RGB8 = RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8)
MASK = RNG.random((5, 6)) < 0.4


def write_png(path: Path, rows: np.ndarray, width: int, depth: int, kind: int) -> None:
    """Writes what Pillow cannot: 16-bit colors, grey of few bits (``rows``: packed bytes)."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def write_tiff(
    path: Path, pixels: np.ndarray, *, order: str = "<", planar: bool = False, photometric: int = -1
) -> None:
    """Writes an uncompressed TIFF, pixels last, of any number type and byte order."""
    height, width, channels = (*pixels.shape, 1)[:3]
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    planes = np.moveaxis(pixels, 2, 0) if planar else [pixels]
    strips = [plane.astype(pixels.dtype.newbyteorder(order)).tobytes() for plane in planes]
    tags = {
        **{256: [width], 257: [height], 258: [8 * pixels.itemsize] * channels, 259: [1]},
        262: [photometric if photometric >= 0 else (2 if channels > 1 else 1)],
        273: [0] * len(strips),
        **{277: [channels], 278: [height], 279: [len(strip) for strip in strips]},
        **{284: [2 if planar else 1], 339: [kind] * channels},
    }
    start = 8 + 2 + 12 * len(tags) + 4
    lists = {tag: 4 * len(values) for tag, values in tags.items() if len(values) > 1}
    places = {tag: start + sum(list(lists.values())[:n]) for n, tag in enumerate(lists)}
    offset = start + sum(lists.values())
    tags[273] = [offset + n * len(strips[0]) for n in range(len(strips))]
    content = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    content += struct.pack(order + "H", len(tags))
    for tag, values in tags.items():
        content += struct.pack(order + "HHII", tag, 4, len(values), places.get(tag, values[0]))
    content += struct.pack(order + "I", 0)
    for tag in places:
        content += struct.pack(f"{order}{len(tags[tag])}I", *tags[tag])
    path.write_bytes(content + b"".join(strips))


def refusal(read: Callable[[Path], np.ndarray], path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def binary(path: Path) -> np.ndarray:
    return read_mask(path, None)


# --- images


@pytest.mark.parametrize("suffix", ["png", "tif", "JPG"])
def test_8_bit_rgb_and_grey(tmp_path: Path, suffix: str) -> None:
    options = {"quality": 100, "subsampling": 0} if suffix == "JPG" else {}
    tolerance = 2 if suffix == "JPG" else 0
    for pixels in (RGB8, RGB8[:, :, 0]):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(pixels).save(path, **options)
        read = read_image(path)
        assert read.shape == (5, 6, 3)
        assert read.dtype == np.uint8
        expected = pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2)
        assert np.abs(read.astype(int) - expected).max() <= tolerance
        assert read.flags.writeable


def test_palette_alpha_and_1_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture = Image.fromarray(RGB8).quantize(8)
    picture.save(path)
    assert np.array_equal(read_image(path), np.asarray(picture.convert("RGB")))
    # Transparency is dropped: colors stay what they are where a viewer would show none.
    Image.fromarray(np.dstack([RGB8, np.zeros((5, 6), np.uint8)])).save(path)
    assert np.array_equal(read_image(path), RGB8)
    Image.fromarray(MASK).save(path)
    assert np.array_equal(read_image(path)[:, :, 1], np.where(MASK, 255, 0))


def test_16_bit_grey_png_and_tiff(tmp_path: Path) -> None:
    assert GREY16.max() > 255 * 200
    paths = [tmp_path / name for name in ("pillow.png", "pillow.tif", "le.tif", "be.tif")]
    for path in paths[:2]:
        Image.fromarray(GREY16).save(path)
    write_tiff(paths[2], GREY16)
    write_tiff(paths[3], GREY16, order=">")
    for path in paths:
        assert np.array_equal(read_image(path), np.stack([GREY16 // 256] * 3, axis=2)), path


def test_16_bit_colors(tmp_path: Path) -> None:
    png, little, big = (tmp_path / name for name in ("a.png", "le.tif", "be.tif"))
    write_png(png, RGB16.astype(">u2"), 6, 16, 2)
    write_tiff(little, RGB16)
    write_tiff(big, RGB16, order=">")
    for path in (png, little, big):
        assert np.array_equal(read_image(path), RGB16 // 256), path


def test_16_bit_values_are_scaled_by_the_range_of_the_type(tmp_path: Path) -> None:
    """A dark 16-bit image stays dark, and is not clipped to 255."""
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 255, 256, 1000, 65535]], np.uint16)).save(path)
    assert read_image(path)[0, :, 0].tolist() == [0, 0, 1, 3, 255]


def test_8_bit_tiff_in_planes_and_with_white_as_0(tmp_path: Path) -> None:
    write_tiff(tmp_path / "planes.tif", RGB8, planar=True)
    assert np.array_equal(read_image(tmp_path / "planes.tif"), RGB8)
    write_tiff(tmp_path / "white.tif", RGB8[:, :, 0], photometric=0)
    assert np.array_equal(read_image(tmp_path / "white.tif")[:, :, 0], 255 - RGB8[:, :, 0])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tif"
    for pixels, expected in ((RGB8, RGB8), (GREY16, np.stack([GREY16 // 256] * 3, axis=2))):
        Image.fromarray(pixels).save(path, compression=compression)
        assert np.array_equal(read_image(path), expected)


def test_what_pillow_reads_wrongly_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for pixels, options in ((RGB16, {"planar": True}), (GREY16, {"photometric": 0})):
        write_tiff(path, pixels, **options)
        for read in (read_image, binary):
            assert "16-bit TIFF with separate color planes or white as 0" in refusal(read, path)


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (np.float32, "floating-point pixels; save it as 8- or 16-bit"),
        (np.int32, "32-bit or signed pixels"),
        (np.int16, "32-bit or signed pixels"),
        (np.float64, "of a kind that Pillow does not know"),
    ],
)
def test_numbers_without_a_range_are_refused(tmp_path: Path, dtype: type, said: str) -> None:
    write_tiff(tmp_path / "a.tif", GREY16.astype(dtype))
    assert said in refusal(read_image, tmp_path / "a.tif")


def test_12_bits_are_refused(tmp_path: Path) -> None:
    """Scaled by the range of 16 bits, such an image would be nearly black."""
    path = tmp_path / "a.tif"
    write_tiff(path, GREY16)
    sixteen, twelve = (struct.pack("<HHII", 258, 4, 1, bits) for bits in (16, 12))
    assert path.read_bytes().count(sixteen) == 1
    path.write_bytes(path.read_bytes().replace(sixteen, twelve))
    assert "12 bits a channel" in refusal(read_image, path)


def test_cmyk_is_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    assert "CMYK pixels" in refusal(read_image, tmp_path / "a.jpg")


@pytest.mark.parametrize("read", [read_image, binary])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_unreadable_files_are_named(
    tmp_path: Path, suffix: str, read: Callable[[Path], np.ndarray]
) -> None:
    path = tmp_path / f"a.{suffix}"
    assert "cannot be read (No such file" in refusal(read, path)
    path.write_bytes(b"")
    assert "no PNG, JPEG or TIFF that can be read" in refusal(read, path)
    noise = np.random.default_rng(0).integers(0, 2, (64, 64))  # cannot be compressed away
    pixels = np.where(noise, 255, 0).astype(np.uint8)
    if suffix == "tif":
        write_tiff(path, pixels)
    else:
        Image.fromarray(pixels).save(path, quality=95)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.8):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "read" in refusal(read, path)
    path.write_bytes(whole)
    read(path)


def test_a_damaged_png_and_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB8).save(path)
    damaged = bytearray(path.read_bytes())
    damaged[55] ^= 255
    path.write_bytes(damaged)
    assert "cannot be read" in refusal(read_image, path)
    Image.fromarray(RGB8).save(path, format="GIF")
    assert "no PNG, JPEG or TIFF" in refusal(read_image, path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_an_orientation_is_refused_unless_it_says_upright(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    for orientation in (1, 3, 6):
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(np.where(MASK, 255, 0).astype(np.uint8)).save(path, exif=exif)
        for read in (read_image, binary):
            if orientation == 1:
                assert read(path).shape[:2] == (5, 6)
            else:
                assert f"EXIF orientation is {orientation}" in refusal(read, path)


def test_several_pages_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(RGB8)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page, page])
    assert "holds 3 pages" in refusal(read_image, tmp_path / "a.tif")


# --- binary masks


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("top", "dtype"), [(255, np.uint8), (1, np.uint8), (65535, np.uint16), (1, np.uint16)]
)
def test_binary_masks(tmp_path: Path, suffix: str, top: int, dtype: type) -> None:
    path = tmp_path / f"a.{suffix}"
    for mask in (MASK, np.zeros_like(MASK), np.ones_like(MASK)):
        Image.fromarray((mask * top).astype(dtype)).save(path)
        read = binary(path)
        assert read.dtype == bool
        assert np.array_equal(read, mask)


def test_binary_masks_of_1_bit_three_channels_alpha_and_palette(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    grey = np.where(MASK, 255, 0).astype(np.uint8)
    opaque = np.full_like(grey, 255)
    palette = Image.fromarray(np.where(MASK, 0, 1).astype(np.uint8), mode="P")
    palette.putpalette([255, 255, 255, 0, 0, 0])  # its colors count: 0 is white here
    for picture in (
        Image.fromarray(MASK),
        Image.fromarray(np.dstack([grey] * 3)),
        Image.fromarray(np.dstack([grey, grey, grey, opaque])),
        Image.fromarray(np.dstack([grey, opaque]), mode="LA"),
        palette,
    ):
        picture.save(path)
        assert np.array_equal(binary(path), MASK), picture.mode
    write_tiff(tmp_path / "a.tif", MASK.astype(np.int32))
    assert np.array_equal(binary(tmp_path / "a.tif"), MASK)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0, 1, 255], "the values 0, 1, 255, not just"),
        ([0, 128], "the values 0, 128, not just"),
        ([7, 7], "the value 7, not just"),
        ([1, 255], "the values 1, 255, not just"),
        ([0, 1, 2, 3, 4, 5], "the values 0, 1, 2, 3, ... (6 in all), not just"),
    ],
)
def test_odd_values_are_listed_with_the_remedy(
    tmp_path: Path, values: list[int], said: str
) -> None:
    Image.fromarray(np.array([values], np.uint8)).save(tmp_path / "a.png")
    message = refusal(binary, tmp_path / "a.png")
    assert said in message
    assert message.endswith("name its foreground in the task: classes: [...]")


def test_a_jpeg_mask_is_cut_at_one_half(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    mask = np.zeros((64, 64), bool)
    mask[20:50, 10:33] = True
    mask[np.arange(64), np.arange(64)] = True
    for channels in (1, 3):
        pixels = np.squeeze(np.stack([np.where(mask, 255, 0).astype(np.uint8)] * channels, 2))
        for quality in (75, 95):
            Image.fromarray(pixels).save(path, quality=quality)
            assert len(np.unique(np.asarray(Image.open(path)))) > 2, "JPEG changed nothing"
            assert np.array_equal(binary(path), mask)
    for value in (0, 255):
        Image.new("L", (16, 16), value).save(path)
        assert binary(path).all() == binary(path).any() == bool(value)


@pytest.mark.parametrize("values", [[0, 128, 255], [0, 3], [0, 180], [100]])
def test_a_jpeg_mask_of_other_values_is_refused(tmp_path: Path, values: list[int]) -> None:
    pixels = np.repeat(np.array([values], np.uint8), 16, axis=1).repeat(16, axis=0)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    assert "must be near 0 or 255 everywhere" in refusal(binary, tmp_path / "a.jpg")


def test_masks_that_can_be_understood_in_two_ways_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    grey = np.where(MASK, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([grey, grey, 255 - grey])).save(path)
    assert "the mask is in color" in refusal(binary, path)
    Image.fromarray(np.dstack([grey * 0, grey * 0, grey * 0, grey])).save(path)
    assert "partly transparent" in refusal(binary, path)
    write_png(path, np.dstack([MASK] * 3).astype(">u2"), 6, 16, 2)  # 1s, which Pillow drops
    assert "16-bit colors" in refusal(binary, path)
    write_tiff(tmp_path / "a.tif", MASK.astype(np.float32))
    assert "mode F" in refusal(binary, tmp_path / "a.tif")


# --- index masks

CLASSES = np.array([[0, 1, 2, 3, 200]], np.uint8)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [*product(["grey", "palette", "rgb", "16 bit"], ["png", "tif"]), ("32 bit", "tif")],
)
def test_index_masks(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    if kind == "grey":
        Image.fromarray(CLASSES).save(path)
    elif kind == "palette":
        picture = Image.fromarray(CLASSES, mode="P")
        picture.putpalette(bytes(reversed(range(256))) * 3)
        picture.save(path)
    elif kind == "rgb":
        Image.fromarray(np.dstack([CLASSES] * 3)).save(path)
    elif kind == "16 bit":
        Image.fromarray(CLASSES.astype(np.uint16)).save(path)
    else:
        write_tiff(path, CLASSES.astype(np.int32))
    assert read_mask(path, [2, 200])[0].tolist() == [False, False, True, False, True]
    assert read_mask(path, {0})[0].tolist() == [True, False, False, False, False]
    assert not read_mask(path, (9,)).any()


def test_values_outside_the_known_classes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(CLASSES).save(path)
    assert read_mask(path, [1], known=[2, 3, 200]).sum() == 1
    message = refusal(lambda path: read_mask(path, [1], known=[3]), path)
    assert "holds the values 2, 200, neither 0 nor a class of the task" in message


def test_grey_of_few_bits_counts_on_the_scale_of_8(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, np.array([[0x01, 0x2F]], np.uint8), 4, 4, 0)  # 0, 1, 2, 15 of 15
    assert read_mask(path, [17, 255])[0].tolist() == [False, True, False, True]
    assert "the values 17, 34, 255, neither" in refusal(
        lambda path: read_mask(path, [1], [2]), path
    )


def test_index_masks_that_lost_their_values_are_refused(tmp_path: Path) -> None:
    Image.fromarray(CLASSES).save(tmp_path / "a.jpg", quality=100)
    assert "JPEG does not keep" in refusal(lambda path: read_mask(path, [1]), tmp_path / "a.jpg")
    Image.fromarray(MASK).save(tmp_path / "a.png")
    assert "1 bit has no classes" in refusal(lambda path: read_mask(path, [1]), tmp_path / "a.png")
