"""Similarities of experts, against numpy and the definitions."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import CheckpointError
from qdmerge.spaces import _similarity as module
from qdmerge.spaces import singular_value_similarity, task_vector_cosine
from tests.trios import SHAPES, Tensors, Trio, draw, write

BOTH = [singular_value_similarity, task_vector_cosine]


@pytest.fixture
def experts(tmp_path: Path) -> Callable[..., TaskVectors]:
    """Task vectors of experts that differ from a base of zeros by what is given."""

    def make(**deltas: Tensors) -> TaskVectors:
        first = next(iter(deltas.values()))
        base = write(tmp_path / "base", {name: torch.zeros_like(t) for name, t in first.items()})
        return TaskVectors(base, {k: write(tmp_path / k, t) for k, t in deltas.items()})

    return make


def deltas(trio: Trio, expert: str) -> dict[str, np.ndarray]:
    return {
        name: (trio.experts[expert][name].double() - trio.base[name].double()).numpy()
        for name in SHAPES
    }


@pytest.mark.parametrize(("a", "b"), permutations(("coding", "db", "os"), 2))
def test_equal_to_numpy_by_the_definitions(trio: Trio, a: str, b: str) -> None:
    ours, theirs = deltas(trio, a), deltas(trio, b)
    cosines = []
    for name in ("embed.weight", "layers.0.attn.weight", "layers.1.conv.weight", "head.weight"):
        s, t = (
            np.sqrt(np.linalg.eigvalsh(m @ m.T).clip(0))
            for m in (d[name].reshape(len(d[name]), -1) for d in (ours, theirs))
        )
        cosines.append(s @ t / (np.linalg.norm(s) * np.linalg.norm(t)))
    vectors = trio.vectors()
    assert singular_value_similarity(vectors, a, b) == pytest.approx(np.mean(cosines), abs=1e-6)
    flat, other = (np.concatenate([t.ravel() for t in d.values()]) for d in (ours, theirs))
    expected = flat @ other / (np.linalg.norm(flat) * np.linalg.norm(other))
    assert task_vector_cosine(vectors, a, b) == pytest.approx(expected, abs=1e-6)
    assert abs(expected) > 0.01, "too small to tell a wrong sign"


def test_sums_in_pieces_are_the_same(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = task_vector_cosine(trio.vectors(), "coding", "db")
    monkeypatch.setattr(module, "_AT_ONCE", 5)
    assert task_vector_cosine(trio.vectors(), "coding", "db") == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("similarity", BOTH)
def test_one_tensor_is_held_at_a_time(
    trio: Trio, monkeypatch: pytest.MonkeyPatch, similarity: Callable[..., float]
) -> None:
    """When a task vector is read, only the other expert's of the same tensor may be there."""
    at_once, alive = [], weakref.WeakSet()
    real = TaskVectors.delta

    def watched(self: TaskVectors, expert: str, name: str) -> torch.Tensor:
        at_once.append(len(alive))
        tensor = real(self, expert, name)
        alive.add(tensor)
        return tensor

    monkeypatch.setattr(TaskVectors, "delta", watched)
    similarity(trio.vectors(memory=0), "coding", "db")
    assert len(at_once) >= 8
    assert max(at_once) <= 1


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16), scale=st.floats(1e-3, 1e3), other=st.floats(1e-3, 1e3))
def test_properties(
    tmp_path_factory: pytest.TempPathFactory, seed: int, scale: float, other: float
) -> None:
    root = tmp_path_factory.mktemp("experts")
    a, b = draw(SHAPES, seed), draw(SHAPES, seed + 1)
    base = write(root / "base", {name: torch.zeros_like(t) for name, t in a.items()})
    models = {
        "a": a,
        "b": b,
        "longer": {name: t * scale for name, t in a.items()},
        "turned": {name: -other * t for name, t in b.items()},
    }
    vectors = TaskVectors(base, {k: write(root / k, t) for k, t in models.items()})
    s, cosine = singular_value_similarity, task_vector_cosine
    assert 0 <= s(vectors, "a", "b") <= 1
    assert -1 <= cosine(vectors, "a", "b") <= 1
    for similarity in BOTH:
        assert similarity(vectors, "a", "b") == pytest.approx(similarity(vectors, "b", "a"))
        assert similarity(vectors, "a", "a") == pytest.approx(1, abs=1e-12)
        assert similarity(vectors, "a", "longer") == pytest.approx(1, abs=1e-6)
    # Singular values know no sign; the cosine does.
    assert s(vectors, "longer", "turned") == pytest.approx(s(vectors, "a", "b"), abs=1e-6)
    assert cosine(vectors, "longer", "turned") == pytest.approx(
        -cosine(vectors, "a", "b"), abs=1e-6
    )


def test_a_matrix_that_neither_changed_is_left_out_and_one_that_one_changed_is_0(experts) -> None:
    def models(both: list[float], one: float, vector: float) -> Tensors:
        return {
            "both": torch.tensor(both).diag(),
            "neither": torch.zeros(3, 3),
            "one": torch.full((3, 3), one),
            "vector": torch.full((3,), vector),
        }

    vectors = experts(a=models([1.0, 1.0, 1.0], 4.0, 1.0), b=models([2.0, 1.0, 0.0], 0.0, -1.0))
    cosine = 3 / (math.sqrt(3) * math.sqrt(5))
    assert singular_value_similarity(vectors, "a", "b") == pytest.approx((cosine + 0) / 2)


def test_experts_equal_to_the_base(experts) -> None:
    zero, one = {"w": torch.zeros(2, 2)}, {"w": torch.ones(2, 2)}
    vectors = experts(a=zero, b=zero, c=one)
    for similarity in BOTH:
        assert math.isnan(similarity(vectors, "a", "b"))
        assert similarity(vectors, "a", "c") == 0


def test_tiny_changes_do_not_underflow(experts) -> None:
    """Squares of these are no float32 numbers any more."""
    w = torch.tensor([[1.0, 2.0], [3.0, 5.0]]) * 1e-30
    vectors = experts(a={"w": w}, b={"w": 2 * w})
    for similarity in BOTH:
        assert similarity(vectors, "a", "b") == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("similarity", BOTH)
def test_wrong_experts(trio: Trio, experts, similarity) -> None:
    with pytest.raises(ValueError, match="no expert 'codin'; did you mean 'coding'"):
        similarity(trio.vectors(), "codin", "db")
    with pytest.raises(CheckpointError, match="NaN or infinity: w"):
        experts(a={"w": torch.full((2, 2), math.nan)}, b={"w": torch.ones(2, 2)})
