"""What is minimized, and at which rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from qdmerge_segmentation.training._objective import segmentation_loss, truth_of
from qdmerge_segmentation.training._trainer import rate_at
from tests.backends.segmentation.training.conftest import MakeConfig


def test_the_loss_is_cross_entropy_plus_soft_dice() -> None:
    logits = torch.tensor([[[0.0, 2.0], [-1.0, 3.0]]])
    truth = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])
    p = 1 / (1 + np.exp(-logits.numpy()))
    t = truth.numpy()
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    dice = (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
    assert segmentation_loss(logits, truth).item() == pytest.approx(entropy + 1 - dice, rel=1e-5)


def test_a_right_answer_costs_nothing_also_where_there_is_no_foreground() -> None:
    truth = torch.zeros(2, 6, 6)
    truth[0, 2:4] = 1
    right = segmentation_loss(40 * truth - 20, truth)
    wrong = segmentation_loss(20 - 40 * truth, truth)
    assert (right < 1e-4).all()
    assert (wrong > 10).all()


def test_small_logits_are_compared_at_the_size_of_the_truth() -> None:
    small = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    truth = torch.zeros(2, 8, 8)
    truth[:, 3] = 1
    large = functional.interpolate(small[None], (8, 8), mode="bilinear", align_corners=False)[0]
    assert torch.equal(segmentation_loss(small, truth), segmentation_loss(large, truth))


def test_thin_structures_survive_when_masks_are_scaled_down() -> None:
    line = np.zeros((40, 40), bool)
    line[:, 17] = True
    truth = truth_of([line, line.T], (8, 8))
    assert truth.sum().item() == pytest.approx(2 * 8 / 5)
    assert torch.equal(truth[0], truth[1].T)
    assert torch.equal(truth_of([line], (40, 40))[0], torch.from_numpy(line).float())


def test_rates_rise_and_fall_in_straight_lines(config: MakeConfig) -> None:
    stage = config(steps=10, training={"base": {"warmup": 4}}).training.base
    rates = [rate_at(step, stage) for step in range(10)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert np.allclose(np.diff(rates[4:]), -1 / 6)
    assert rates[-1] > 0
