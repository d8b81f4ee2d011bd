from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.metrics import f1_score, jaccard_score

from qdmerge_segmentation.metrics import METRICS, dice, iou

EMPTY = np.zeros((3, 4), bool)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(array_shapes(min_dims=2, max_dims=2, max_side=8))
    return draw(arrays(bool, shape)), draw(arrays(bool, shape))


@pytest.mark.parametrize("name", ["dice", "iou"])
@given(masks=pairs())
def test_scores_are_symmetric_bounded_and_1_for_equal_masks_only(
    name: str, masks: tuple[np.ndarray, np.ndarray]
) -> None:
    predicted, truth = masks
    score = METRICS[name](predicted, truth)
    assert type(score) is float
    assert 0 <= score <= 1
    assert score == METRICS[name](truth, predicted)
    assert (score == 1) == np.array_equal(predicted, truth)
    assert METRICS[name](truth, truth.copy()) == 1


@given(pairs())
def test_iou_follows_from_dice(masks: tuple[np.ndarray, np.ndarray]) -> None:
    score = dice(*masks)
    assert iou(*masks) == pytest.approx(score / (2 - score), abs=1e-12)


@settings(max_examples=40)
@given(pairs())
def test_scores_are_those_of_scikit_learn(masks: tuple[np.ndarray, np.ndarray]) -> None:
    predicted, truth = (mask.ravel() for mask in masks)
    expected = f1_score(truth, predicted, zero_division=1.0)
    assert dice(*masks) == pytest.approx(expected, abs=1e-12)
    expected = jaccard_score(truth, predicted, zero_division=1)
    assert iou(*masks) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["dice", "iou"])
def test_an_empty_truth_wants_an_empty_prediction(name: str) -> None:
    pixel = EMPTY.copy()
    pixel[0, 0] = True
    assert METRICS[name](EMPTY, EMPTY) == 1
    assert METRICS[name](pixel, EMPTY) == 0
    assert METRICS[name](EMPTY, pixel) == 0


def test_known_values() -> None:
    truth = np.array([[1, 1, 0, 0]], bool)
    predicted = np.array([[0, 1, 1, 1]], bool)
    assert dice(predicted, truth) == pytest.approx(2 / 5)
    assert iou(predicted, truth) == pytest.approx(1 / 4)


@pytest.mark.parametrize("wrong", [np.zeros((4, 3), bool), np.full((3, 4), 255, np.uint8)])
def test_masks_must_be_bool_and_of_one_size(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two bool masks of one size"):
        dice(wrong, EMPTY)
    with pytest.raises(ValueError, match="two bool masks of one size"):
        iou(EMPTY, wrong)
