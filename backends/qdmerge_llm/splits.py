"""Which split an item belongs to: decided by its content, never by its row number."""

from __future__ import annotations

import hashlib
from typing import Literal, get_args

Split = Literal["train", "validation", "selection", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_UPPER_EDGES: tuple[tuple[float, Split], ...] = (
    (0.60, "train"),
    (0.72, "validation"),
    (0.86, "selection"),
)


def split_of(group: str) -> Split:
    """Return the split of every item that shares ``group``.

    A group names what an item asks for, its wording left out, so that no paraphrase of a training
    item is ever tested on. The SHA-256 of the group, read as a fraction of 2^64, is compared with
    the edges 0.60, 0.72 and 0.86.
    """
    digest = hashlib.sha256(group.encode()).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    return next((split for edge, split in _UPPER_EDGES if fraction < edge), "test")
