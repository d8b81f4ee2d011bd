"""What every weight space promises, whatever its map."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdmerge.checkpoints import TaskVectors
from qdmerge.spaces import WeightSpace
from tests.trios import SHAPES, Trio

KINDS = ("expert", "layer", "spectral", "core", "dense")
MakeTrio = Callable[..., Trio]
MakeSpace = Callable[..., WeightSpace]

shapes = st.dictionaries(
    st.sampled_from(["a.weight", "b", "layers.0.w", "layers.0.b", "layers.10.w", "z.1.2"]),
    st.lists(st.integers(1, 7), max_size=4).map(tuple),
    min_size=1,
)
number = st.floats(-2, 2)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def assert_dense(space: WeightSpace, x: np.ndarray, trio: Trio, weights: dict[str, float]) -> None:
    for name, tensor in space.tensors(x):
        if tensor.is_floating_point():
            expected = trio.dense(weights, name)
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-5)


@few
@given(shapes=shapes, rank=st.integers(1, 8), experts=st.integers(1, 3), seed=st.integers(0, 9))
def test_seeds_reproduce_base_and_experts(
    make_trio: MakeTrio, make_space: MakeSpace, shapes: dict, rank: int, experts: int, seed: int
) -> None:
    trio = make_trio(shapes, names=("p", "q", "r")[:experts], seed=seed)
    for kind in KINDS:
        space = make_space(kind, trio.vectors(), rank)
        assert list(space.seeds) == ["base", *trio.experts]
        for name, tensor in space.tensors(space.seeds["base"]):
            assert torch.equal(tensor, trio.base[name])
        for expert in trio.experts:
            assert_dense(space, space.seeds[expert], trio, {expert: 1.0})


@few
@given(weights=st.lists(number, min_size=3, max_size=3), rank=st.integers(1, 9))
def test_merge_equals_the_dense_merge(
    trio: Trio, make_space: MakeSpace, weights: list[float], rank: int
) -> None:
    named = dict(zip(trio.experts, weights, strict=True))
    for kind in KINDS:
        space = make_space(kind, trio.vectors(), rank)
        assert_dense(space, space.merge(weights), trio, named)
        np.testing.assert_array_equal(space.merge(named), space.merge(weights))


@few
@given(a=number, b=number, seed=st.integers(0, 2**16), rank=st.integers(1, 9))
def test_the_map_is_linear(
    trio: Trio, make_space: MakeSpace, a: float, b: float, seed: int, rank: int
) -> None:
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        space = make_space(kind, trio.vectors(), rank)
        x, y = rng.normal(size=(2, space.dim)).astype(np.float32)
        left = dict(space.tensors(a * x + b * y))
        at_x, at_y = dict(space.tensors(x)), dict(space.tensors(y))
        for name in SHAPES:
            base = trio.base[name]
            right = base + a * (at_x[name] - base) + b * (at_y[name] - base)
            torch.testing.assert_close(left[name], right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_coordinate_moves_something(trio: Trio, make_space: MakeSpace, kind: str) -> None:
    space = make_space(kind, trio.vectors(), 3)
    for i in range(space.dim):
        x = np.zeros(space.dim)
        x[i] = 1.0
        moved = sum(float((t - trio.base[n]).abs().sum()) for n, t in space.tensors(x))
        assert moved > 1e-3, f"coordinate {i} of {space.dim}"


@pytest.mark.parametrize("kind", KINDS)
def test_attributes(trio: Trio, make_space: MakeSpace, kind: str) -> None:
    space = make_space(kind, trio.vectors())
    assert space.name == kind
    assert space.dtype == np.float32
    assert space.experts == tuple(trio.experts)
    assert np.isinf(space.lower_bounds).all()
    assert space.upper_bounds.shape == (space.dim,)
    third = np.mean([space.seeds[k] for k in trio.experts], axis=0)
    np.testing.assert_allclose(space.x0, third, rtol=1e-5)
    np.testing.assert_allclose(space.x0, space.merge([1 / 3] * 3), rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_come_in_the_base_s_order_and_dtypes(
    make_trio: MakeTrio, make_space: MakeSpace, kind: str
) -> None:
    trio = make_trio(dtype=torch.bfloat16)
    space = make_space(kind, trio.vectors())
    got = list(space.tensors(space.merge([0.5, 0.25, 0.25])))
    assert [name for name, _ in got] == list(trio.vectors().names)
    assert {n: t.dtype for n, t in got} == {n: t.dtype for n, t in trio.base.items()}
    assert dict(got)["layers.1.steps"].tolist() == [7, 8, 9]


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_dtypes_are_merged_in_float32(
    make_trio: MakeTrio, make_space: MakeSpace, kind: str
) -> None:
    single, half = make_trio(seed=1), make_trio(seed=2, dtype=torch.float16)
    mixed = Trio(
        single.base,
        {"db": half.experts["db"]},
        single.base_path,
        {"db": half.expert_paths["db"]},
    )
    space = make_space(kind, mixed.vectors())
    assert_dense(space, space.merge([0.3]), mixed, {"db": 0.3})


@pytest.mark.parametrize("kind", KINDS)
def test_bad_solutions_are_refused(trio: Trio, make_space: MakeSpace, kind: str, tmp_path) -> None:
    space = make_space(kind, trio.vectors())
    received = rf"expected .*\({space.dim},\).*received shape \({space.dim + 1},\)"
    with pytest.raises(ValueError, match=received):
        space.tensors(np.zeros(space.dim + 1))
    with pytest.raises(ValueError, match="finite"):
        space.express(np.full(space.dim, np.nan), torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="finite"):
        space.export(np.full(space.dim, 1e300), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_bad_weights_are_refused(trio: Trio, make_space: MakeSpace) -> None:
    space = make_space("expert", trio.vectors())
    with pytest.raises(ValueError, match=r"received shape \(2,\)"):
        space.merge([1.0, 2.0])
    with pytest.raises(ValueError, match=r"\['sql'\]"):
        space.merge({"sql": 1.0})
    np.testing.assert_array_equal(space.merge({"db": 2.0}), [0, 2, 0])


def test_streamed_and_resident_agree(trio: Trio, make_space: MakeSpace) -> None:
    kept = make_space("spectral", trio.vectors())
    streamed = make_space("spectral", TaskVectors(trio.base_path, trio.expert_paths, memory=0))
    x = np.random.default_rng(0).normal(size=kept.dim)
    for (name, a), (_, b) in zip(kept.tensors(x), streamed.tensors(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5, msg=name)
