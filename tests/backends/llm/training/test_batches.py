"""The batches of a training."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qdmerge_llm.training import LoRAConfig
from qdmerge_llm.training._data import NOT_LEARNED, Example, collate, plan


def test_conversations_with_nothing_in_common_have_no_prefix() -> None:
    one, other = Example([1, 2, 3], [False, False, True]), Example([2, 5], [False, True])
    batch = collate([one, other], pad=0)
    assert batch["prefix"].shape == (1, 0)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [0, 2, 5]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2], [0, 0, 1]]
    assert batch["labels"].tolist() == [
        [NOT_LEARNED, NOT_LEARNED, 3],
        [NOT_LEARNED, NOT_LEARNED, 5],
    ]


@given(
    lengths=st.lists(st.integers(1, 99), min_size=1, max_size=60),
    size=st.integers(1, 9),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_every_conversation_is_seen_once_an_epoch(
    lengths: list[int], size: int, epochs: int, seed: int
) -> None:
    settings = LoRAConfig(batch_size=size, epochs=epochs, seed=seed)
    steps = plan(lengths, settings)
    assert steps == plan(lengths, settings)
    assert sorted(i for step in steps for i in step) == sorted(epochs * list(range(len(lengths))))
    assert max(map(len, steps)) <= size
    assert plan(lengths, settings.model_copy(update={"steps": 2})) == steps[:2]
