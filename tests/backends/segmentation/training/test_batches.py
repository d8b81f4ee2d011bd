"""Which images a step sees, and how they are turned."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qdmerge_segmentation.training._objective import Mix, turned


def test_the_eight_symmetries_differ_and_turn_image_and_mask_alike() -> None:
    image = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(5, 5, 3)
    mask = image[..., 0] > 30
    seen = {turned(image, symmetry).tobytes() for symmetry in range(8)}
    assert len(seen) == 8
    for symmetry in range(8):
        assert np.array_equal(turned(mask, symmetry), turned(image, symmetry)[..., 0] > 30)


def test_images_that_are_not_square_keep_their_shape() -> None:
    image = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6)
    kept = [turned(image, symmetry) for symmetry in range(8)]
    assert {one.shape for one in kept} == {(4, 6)}
    assert Counter(one.tobytes() for one in kept).most_common() == [
        (one.tobytes(), 2) for one in (image, image[::-1, ::-1], image[:, ::-1], image[::-1])
    ]


@given(
    own=st.integers(1, 3),
    others=st.integers(0, 3),
    replay=st.floats(0, 0.99),
    size=st.integers(1, 17),
    seed=st.integers(0, 99),
)
def test_batches_keep_their_shares_and_show_each_image_equally_often(
    own: int, others: int, replay: float, size: int, seed: int
) -> None:
    names = [f"t{number}" for number in range(own + others)]
    sizes = {name: 3 + number for number, name in enumerate(names)}
    mix = Mix(names[:own], names[own:], sizes, replay, seed, "model")
    batches = [mix.batch(step, size) for step in range(12)]
    assert mix.batch(7, size) == batches[7]  # whatever was asked for before
    seen = Counter(pair for batch in batches for pair in batch)
    of_task = {name: [seen[name, index] for index in range(sizes[name])] for name in names}
    for counts in of_task.values():
        assert max(counts) - min(counts) <= 1
    totals = {name: sum(counts) for name, counts in of_task.items()}
    assert sum(totals.values()) == 12 * size
    share = replay if others else 0.0
    assert abs(sum(totals[name] for name in names[own:]) - share * 12 * size) <= 1
    for group in (names[:own], names[own:]):
        found = [totals[name] for name in group]
        assert not found or max(found) - min(found) <= 1


def test_another_seed_or_model_sees_another_order() -> None:
    def order(seed: int, name: str) -> list[tuple[str, int]]:
        return Mix(["a"], [], {"a": 50}, 0.0, seed, name).batch(0, 50)

    assert order(0, "x") == order(0, "x")
    assert len({tuple(order(0, "x")), tuple(order(1, "x")), tuple(order(0, "y"))}) == 3
