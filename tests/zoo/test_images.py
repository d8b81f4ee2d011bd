from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from qdmerge_segmentation.data import find_samples, load_set
from qdmerge_segmentation.metrics import dice
from qdmerge_zoo.segmentation import ALL_TASKS, TASKS, generate
from qdmerge_zoo.segmentation import _textures as textures
from qdmerge_zoo.segmentation._images import GENERATORS, Pair, write_images

SHARES = {"camouflage": (0.08, 0.2), "polyp": (0.06, 0.2), "skeleton": (0.06, 0.16)}
SHARES |= {"leaf": (0.03, 0.1), "crack": (0.03, 0.07), "focus": (0.1, 0.2)}
COUNT = 40


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Pair]]:
    return {task: [generate(task, index) for index in range(COUNT)] for task in ALL_TASKS}


@pytest.mark.parametrize("task", ALL_TASKS)
def test_images_and_masks_are_what_they_should_be(drawn: dict[str, list[Pair]], task: str) -> None:
    for image, mask in drawn[task]:
        assert (image.shape, image.dtype) == ((128, 128, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((128, 128), bool)
        assert 0.02 <= mask.mean() <= 0.35
        assert image.std() > 8
    low, high = SHARES[task]
    assert low < np.mean([mask.mean() for _, mask in drawn[task]]) < high


@pytest.mark.parametrize("task", ALL_TASKS)
def test_the_seed_and_the_number_decide_the_pixels(task: str) -> None:
    for first, second in zip(generate(task, 3, seed=5), generate(task, 3, seed=5), strict=True):
        np.testing.assert_array_equal(first, second)
    pairs = [generate(task, 3, seed=5), generate(task, 3, seed=6), generate(task, 4, seed=5)]
    for index, (image, mask) in enumerate(pairs):
        for other_image, other_mask in pairs[:index]:
            assert np.mean(image != other_image) > 0.5
            assert not np.array_equal(mask, other_mask)


@pytest.mark.parametrize("task", ALL_TASKS)
@pytest.mark.parametrize("size", [32, 96])
def test_every_size_has_its_foreground(task: str, size: int) -> None:
    shares = [generate(task, index, size=size)[1].mean() for index in range(6)]
    assert min(shares) > 0.01
    assert max(shares) < 0.4


def features(image: np.ndarray) -> dict[str, np.ndarray]:
    """The channels of an image, and what is computed of colors to tell things apart."""
    red, green, blue = np.moveaxis(image.astype(np.float32), 2, 0)
    highest, lowest = image.max(axis=2).astype(np.float32), image.min(axis=2).astype(np.float32)
    return {
        "red": red,
        "green": green,
        "blue": blue,
        "gray": (red + green + blue) / 3,
        "value": highest,
        "saturation": (highest - lowest) / (highest + 1),
        "red - green": red - green,
        "green - blue": green - blue,
        "blue - red": blue - red,
        "red / green": red / (green + 1),
    }


def best_threshold(pairs: list[Pair]) -> float:
    """The mean Dice of the best threshold of one feature, chosen for these very images."""
    truth = np.stack([mask for _, mask in pairs])
    columns = [features(image) for image, _ in pairs]
    best = 0.0
    for name in columns[0]:
        values = np.stack([column[name] for column in columns])
        for threshold in np.quantile(values, np.linspace(0.02, 0.98, 33)):
            above = values > threshold
            found = above.sum(axis=(1, 2))
            hits, sizes = (above & truth).sum(axis=(1, 2)), truth.sum(axis=(1, 2))
            for common, total in (
                (hits, found + sizes),
                (sizes - hits, above[0].size - found + sizes),
            ):
                best = max(best, float(np.mean(2 * common / total)))
    return best


def test_the_best_threshold_is_found() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((3, 16, 16)) < 0.3
    easy = [(np.stack([mask * np.uint8(9)] * 3, axis=2), mask) for mask in masks]
    assert best_threshold(easy) == pytest.approx(1.0)
    assert best_threshold([(255 - image, mask) for image, mask in easy]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("task", "bound"),
    [*dict.fromkeys(TASKS[:2], 0.35).items(), *dict.fromkeys(ALL_TASKS[2:], 0.5).items()],
)
def test_no_threshold_solves_a_task(drawn: dict[str, list[Pair]], task: str, bound: float) -> None:
    """The experts reach at least 0.6."""
    assert best_threshold(drawn[task]) < bound


def test_a_hidden_object_has_the_colors_of_its_surroundings(drawn: dict[str, list[Pair]]) -> None:
    gaps = []
    for image, mask in drawn["camouflage"]:
        gray = image.mean(axis=2)
        gaps.append(abs(gray[mask].mean() - gray[~mask].mean()) / gray.std())
    assert np.mean(gaps) < 0.35


def test_skeletons_are_thin_and_brighter_than_what_is_beside_them(
    drawn: dict[str, list[Pair]],
) -> None:
    for image, mask in drawn["skeleton"]:
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))
        assert depth.max() < 8
        assert np.median(depth[depth > 0]) <= 2
        beside = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_dilation(mask)
        gray = image.mean(axis=2)
        assert gray[mask].mean() > gray[beside].mean() + 5


def test_cracks_are_thin_and_darker_than_what_is_beside_them(drawn: dict[str, list[Pair]]) -> None:
    for image, mask in drawn["crack"]:
        assert ndimage.distance_transform_edt(np.pad(mask, 1)).max() < 8
        beside = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_dilation(mask)
        gray = image.mean(axis=2)
        assert gray[mask].mean() < gray[beside].mean() - 5


def test_only_detail_tells_what_is_sharp(drawn: dict[str, list[Pair]]) -> None:
    gaps = []
    for image, mask in drawn["focus"]:
        gray = image.mean(axis=2)
        inside, outside = ndimage.binary_erosion(mask, iterations=3), ~mask
        gaps.append(abs(gray[inside].mean() - gray[outside].mean()) / gray.std())
        detail = np.abs(ndimage.laplace(gray))
        assert detail[inside].mean() > 1.3 * detail[outside].mean()
    assert np.mean(gaps) < 0.8


def test_spots_lie_on_the_leaf(drawn: dict[str, list[Pair]]) -> None:
    greenness = []
    for image, mask in drawn["leaf"]:
        red, green, _ = np.moveaxis(image.astype(float), 2, 0)
        beside = ndimage.binary_dilation(mask, iterations=4) & ~mask
        greenness.append((green - red)[beside].mean() - (green - red)[mask].mean())
    assert np.mean(np.array(greenness) > 5) > 0.9


def test_written_images_are_read_back(tmp_path: Path) -> None:
    calls: list[None] = []
    write_images("leaf", 5, 2, 32, tmp_path / "leaf", lambda: calls.append(None))
    assert len(calls) == 5
    images = load_set(find_samples(tmp_path / "leaf"), None)
    for index in range(5):
        image, mask = generate("leaf", index, 2, 32)
        np.testing.assert_array_equal(images.images[index], image)
        assert dice(images.masks[index], mask) == 1.0
    with (tmp_path / "leaf" / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows] == list(images.names)
    assert len({row["group"] for row in rows}) == 5


def test_a_stroke_is_where_and_as_wide_as_it_is_told() -> None:
    field = textures.strokes(64, np.array([[0.25, 0.5], [2.0, 2.0]]), np.array([0.1, 0.1]))
    assert np.sum(field > 0) == pytest.approx(np.pi * 6.4**2, rel=0.05)
    assert ndimage.center_of_mass(field > 0) == pytest.approx((31.5, 15.5), abs=0.1)
    assert field.max() <= 6.4
    assert field.min() == -1


@pytest.mark.parametrize("band", [True, False])
def test_noise_is_normal_and_has_its_length(band: bool) -> None:
    rng = np.random.default_rng(0)
    fine, coarse = (textures.noise(rng, 128, scale, band=band) for scale in (0.02, 0.1))
    for field in (fine, coarse):
        assert field.mean() == pytest.approx(0, abs=1e-4)
        assert field.std() == pytest.approx(1, abs=1e-3)
    steps = [np.abs(np.diff(field, axis=0)).mean() for field in (fine, coarse)]
    assert steps[0] > 3 * steps[1]


def test_stretched_noise_lies_along_its_angle() -> None:
    field = textures.noise(np.random.default_rng(0), 128, 0.03, stretch=5, angle=np.pi / 2)
    assert np.abs(np.diff(field, axis=1)).mean() > 2 * np.abs(np.diff(field, axis=0)).mean()


def test_cells_are_nearest_centers() -> None:
    near, border, number = textures.cells(np.random.default_rng(0), 64, 25)
    assert near.min() < 0.2
    assert border.min() >= 0
    assert 25 <= len(np.unique(number)) <= 49
    inner = ndimage.minimum_filter(number, 3) == ndimage.maximum_filter(number, 3)
    assert border[inner].mean() > 2 * border[~inner].mean()


def test_every_task_is_drawn() -> None:
    assert TASKS == ("camouflage", "polyp", "skeleton", "leaf")
    assert tuple(GENERATORS) == ALL_TASKS == (*TASKS, "crack", "focus")
