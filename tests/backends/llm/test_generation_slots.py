from __future__ import annotations

import torch
from transformers import DynamicCache

from qdmerge_llm.generation._cache import Slots


def joined(slots: Slots, *rows: list[float]) -> None:
    """Adds rows whose keys are these numbers; values are their negatives."""
    width = max(map(len, rows))
    keys = torch.tensor([row + [0.0] * (width - len(row)) for row in rows])[:, None, :, None]
    read = DynamicCache()
    read.update(keys, -keys, 0)
    slots.join(read, torch.tensor([len(row) for row in rows]))


def step(slots: Slots, *numbers: float) -> list[list[float]]:
    """One token more for each row: the keys that each may look at."""
    mask = slots.step()["attention_mask"].bool()
    new = torch.tensor(numbers).view(-1, 1, 1, 1)
    keys, values = slots.update(new, -new, 0)
    # What is hidden must be numbers too: a weight of 0 does not take NaN out of a sum.
    assert torch.equal(keys[:, 0, :, 0][~mask], -values[:, 0, :, 0][~mask])
    return [row[own].tolist() for row, own in zip(keys[:, 0, :, 0], mask, strict=True)]


def test_rows_come_and_go() -> None:
    slots = Slots(1, 3, torch.device("cpu"))
    joined(slots, [1.0, 2.0, 3.0], [4.0])
    assert step(slots, 5.0, 6.0) == [[1.0, 2.0, 3.0, 5.0], [4.0, 6.0]]
    joined(slots, [7.0])
    assert step(slots, 8.0, 9.0, 10.0)[1:] == [[4.0, 6.0, 9.0], [7.0, 10.0]]
    assert slots.leave(torch.tensor([True, False, False])).tolist() == [2, 1]
    assert step(slots, 11.0, 12.0) == [[7.0, 10.0, 11.0], [4.0, 6.0, 9.0, 12.0]]
    for number in range(100):  # beyond the memory that was taken at first
        row = step(slots, float(number), 0.0)[0]
    assert row == [7.0, 10.0, 11.0, *range(100)]


def test_what_a_row_leaves_behind_is_not_seen() -> None:
    slots = Slots(1, 2, torch.device("cpu"))
    joined(slots, [1.0, 2.0, 3.0], [4.0])
    step(slots, 5.0, 6.0)
    step(slots, 7.0, float("nan"))
    assert slots.leave(torch.tensor([False, True])).tolist() == [0]
    joined(slots, [8.0])
    assert step(slots, 9.0, 10.0) == [[1.0, 2.0, 3.0, 5.0, 7.0, 9.0], [8.0, 10.0]]
