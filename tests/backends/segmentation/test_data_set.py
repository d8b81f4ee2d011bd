from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qdmerge.errors import ConfigError
from qdmerge_segmentation.data import ImageSet, find_samples, load_set, read_image

SHARED = Path(os.environ.get("QDMERGE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images of different sizes."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    rng = np.random.default_rng(0)
    for n in range(8):
        image = rng.integers(0, 256, (10 + n, 20, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"images/{n}.png")
        Image.fromarray(image[:, :, 0] > 99).save(tmp_path / f"masks/{n}.tif")
    return tmp_path


def test_images_and_masks_come_in_the_order_of_the_samples(folder: Path) -> None:
    samples = find_samples(folder)[::-1]
    loaded = load_set(samples, None)
    assert len(loaded) == 8
    assert loaded.names == tuple(f"{n}.png" for n in range(7, -1, -1))
    for sample, image, mask in zip(samples, loaded.images, loaded.masks, strict=True):
        assert np.array_equal(image, read_image(sample.image))
        assert mask.dtype == bool
        assert np.array_equal(mask, image[:, :, 0] > 99)


def test_classes_reach_the_masks(folder: Path) -> None:
    samples = find_samples(folder)[:1]
    Image.fromarray(np.full((10, 20), 3, np.uint8)).save(samples[0].mask)
    assert load_set(samples, [3]).masks[0].all()
    assert not load_set(samples, [2]).masks[0].any()
    with pytest.raises(ConfigError, match="the value 3, neither 0 nor a class"):
        load_set(samples, [2], known=[1])


def test_a_mask_of_another_size_is_named(folder: Path) -> None:
    Image.new("L", (20, 11)).save(folder / "masks/2.tif")
    with pytest.raises(ConfigError) as caught:
        load_set(find_samples(folder), None)
    assert str(caught.value) == (
        f"{folder}/masks/2.tif: the mask is 20 x 11 pixels (width x height), its image 2.png "
        "20 x 12"
    )


def test_several_files_that_cannot_be_used_are_named_together(folder: Path) -> None:
    (folder / "images/1.png").write_bytes(b"")
    (folder / "masks/3.tif").write_bytes(b"II*")
    with pytest.raises(ConfigError) as caught:
        load_set(find_samples(folder), None)
    lines = str(caught.value).split("\n")
    assert [line.partition(":")[0] for line in lines] == [
        f"{folder}/images/1.png",
        f"{folder}/masks/3.tif",
    ]
    for path in (folder / "masks").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        load_set(find_samples(folder), None)
    lines = str(caught.value).split("\n")
    assert len(lines) == 6
    assert lines[-1] == "... and 3 more of 8 images"


def test_the_fingerprint_tells_names_pixels_and_masks() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    mask = np.zeros((4, 6), bool)
    other_image, other_mask = image.copy(), mask.copy()
    other_image[1, 2, 0] = 1
    other_mask[3, 5] = True
    sets = [
        ImageSet((), (), ()),
        ImageSet(("a",), (image,), (mask,)),
        ImageSet(("b",), (image,), (mask,)),
        ImageSet(("a",), (other_image,), (mask,)),
        ImageSet(("a",), (image,), (other_mask,)),
        ImageSet(("a",), (image.reshape(6, 4, 3),), (mask.reshape(6, 4),)),
        ImageSet(("a", "b"), (image, other_image), (mask, mask)),
        ImageSet(("a", "b"), (other_image, image), (mask, mask)),
    ]
    assert len({images.fingerprint for images in sets}) == len(sets)
    assert all(len(images.fingerprint) == 16 for images in sets)
    again = ImageSet(("a",), (image[:, ::-1],), (mask.copy(),))  # not contiguous
    assert again.fingerprint == sets[1].fingerprint


@pytest.mark.skipif(
    not (SHARED / "segmentation").is_dir(),
    reason=f"no sample images in {SHARED / 'segmentation'}; set QDMERGE_SHARED_DATA",
)
@pytest.mark.parametrize(
    ("task", "images", "groups"),
    [("leaf", 62, 62), ("polyp", 61, 30), ("vessel", 108, 54), ("nuclei", 120, 120)],
)
def test_real_images_load(task: str, images: int, groups: int) -> None:
    samples = find_samples(SHARED / "segmentation" / task)
    assert len(samples) == images
    assert len({sample.group for sample in samples}) == groups
    loaded = load_set(samples, None)
    assert all(image.shape == (128, 128, 3) for image in loaded.images)
    assert all(mask.shape == (128, 128) and mask.any() for mask in loaded.masks)
    shares = {"leaf": 0.043, "polyp": 0.095, "vessel": 0.115, "nuclei": None}
    if shares[task] is not None:  # as SOURCES.md beside the images has it
        assert np.mean(loaded.masks) == pytest.approx(shares[task], abs=0.001)
