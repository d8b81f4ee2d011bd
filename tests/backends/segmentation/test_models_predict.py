"""Masks from a model whose answer is known: foreground is where red is above the middle."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qdmerge_segmentation.models import load_segmenter, predict
from tests.backends.segmentation.conftest import pictures


def red() -> torch.nn.Module:
    return torch.nn.Conv2d(3, 1, 1)


@pytest.fixture
def folder(tmp_path):
    weight = torch.zeros(1, 3, 1, 1)
    weight[0, 0] = 1
    save_file({"weight": weight, "bias": torch.tensor([-0.5])}, tmp_path / "model.safetensors")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    return tmp_path


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_masks_are_where_the_log_odds_are_positive(folder, batch_size):
    segmenter = load_segmenter(folder, factory=f"{__name__}:red")
    images, masks = pictures(5)
    predicted = predict(segmenter, segmenter.inputs(images, masks), [(64, 64)] * 5, batch_size)
    for image, mask in zip(images, predicted, strict=True):
        assert mask.dtype == bool
        assert np.array_equal(mask, image[..., 0] >= 128)
    assert not any(mask.all() for mask in predicted)


def test_masks_have_the_images_own_sizes(folder):
    """A model that works at a quarter of the side finds the same rectangles again."""
    segmenter = load_segmenter(folder, factory=f"{__name__}:red", image_size=32)
    images, expected = [], []
    for height, width in [(128, 96), (64, 128), (32, 32)]:
        mask = np.zeros((height, width), bool)
        mask[height // 4 : height // 2, width // 8 : width // 2] = True
        images.append(np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255)
        expected.append(mask)
    inputs = segmenter.inputs(images, expected)
    for found, mask in zip(
        predict(segmenter, inputs, [mask.shape for mask in expected], 2), expected, strict=True
    ):
        assert found.shape == mask.shape
        assert (found == mask).mean() > 0.97


def test_a_size_is_needed_for_every_image(folder):
    segmenter = load_segmenter(folder, factory=f"{__name__}:red")
    with pytest.raises(ValueError, match="shorter"):
        predict(segmenter, segmenter.inputs(*pictures(3)), [(64, 64)] * 2, 2)
