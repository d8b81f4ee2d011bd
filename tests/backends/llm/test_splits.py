from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from qdmerge_llm.items import SPLITS, split_of


@given(st.text())
def test_a_split_follows_from_the_sha256_of_the_group_alone(group: str) -> None:
    fraction = int(hashlib.sha256(group.encode()).hexdigest()[:16], 16) / 16**16
    first_edge_above = sum(fraction >= edge for edge in (0.60, 0.72, 0.86))
    assert split_of(group) == SPLITS[first_edge_above]


def test_shares_of_the_splits() -> None:
    counts = Counter(split_of(f"group {n}") for n in range(20_000))
    shares = [counts[split] / 20_000 for split in SPLITS]
    for share, expected in zip(shares, (0.60, 0.12, 0.14, 0.14), strict=True):
        assert abs(share - expected) < 0.015


def test_known_groups_keep_their_split() -> None:
    """A changed hash would silently move test items into training."""
    groups = ("coding/list/even/square/sum", "db/star/all/top", "")
    assert [split_of(group) for group in groups] == ["train", "selection", "test"]
