"""Test scores under resampled test items, the same ones for all runs of a block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qdmerge.compare._data import RunRow, blocks_of
from qdmerge.errors import RunError

_CHUNK = 256


def resampled_scores(
    rows: Sequence[RunRow], criterion: str, tasks: Sequence[str], resamples: int, seed: int
) -> list[np.ndarray | None]:
    """Test scores of a criterion's picks, resampling the items of each task.

    Replicate r takes the same items for every run of a block, and of all blocks that are tested on
    the same items, so what is easy or hard for all does not blur a difference between them. The
    draws depend on the seed, the number of the first block with these items, the task and the
    number of its items alone: another method changes nobody's interval.

    Args:
        rows: Runs that came to their end.
        criterion: Whose picks.
        tasks: Names of the K tasks.
        resamples: Number of replicates, R.
        seed: Seed of the resampling.

    Returns:
        Per row ``(R, K)``; None where it has no such pick or the pick lacks items of a task.

    Raises:
        RunError: Runs of one block have different numbers of items.
    """
    found: list[np.ndarray | None] = [None] * len(rows)
    first: dict[str, int] = {}  # of the blocks with these items, the number of the first one
    for number, block in enumerate(blocks_of(rows)):
        told = [
            (at, [np.asarray(items[task], dtype=np.float64) for task in tasks])
            for at, row in enumerate(rows)
            if row.block == block
            and (items := _items(row, criterion))
            and all(items.get(task) is not None for task in tasks)
        ]
        if not told:
            continue
        draw = first.setdefault(rows[told[0][0]].data or block, number)
        scores = []
        for column, task in enumerate(tasks):
            lengths = {len(items[column]) for _, items in told}
            if len(lengths) > 1:
                counts = ", ".join(map(str, sorted(lengths)))
                raise RunError(
                    f"runs of '{block}' have {counts} test items of '{task}': they were not made "
                    "with the same test split; compare runs of one configuration"
                )
            rng = np.random.default_rng([seed, draw, column])
            scores.append(_means([items[column] for _, items in told], resamples, rng))
        for place, (at, _) in enumerate(told):
            found[at] = np.stack([columns[:, place] for columns in scores], axis=-1)
    return found


def fewest_items(rows: Sequence[RunRow], criterion: str) -> int:
    """Number of items of the smallest task among the picks of these rows; 0 without items."""
    lengths = [
        len(items) for row in rows for items in _items(row, criterion).values() if items is not None
    ]
    return min(lengths, default=0)


def _items(row: RunRow, criterion: str) -> dict[str, np.ndarray | None]:
    return dict(row.picks[criterion].items) if criterion in row.picks else {}


def _means(items: Sequence[np.ndarray], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """``(R, runs)`` means over resampled items; how often an item is drawn is multinomial."""
    table = np.stack(items, axis=1)
    n = len(table)
    parts = []
    for start in range(0, resamples, _CHUNK):  # all at once would hold resamples x items
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(_CHUNK, resamples - start))
        parts.append(counts @ table / n)
    return np.concatenate(parts)
