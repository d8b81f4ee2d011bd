"""Recipes as spaces of whole models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import CheckpointError, ConfigError
from qdmerge.merges import (
    DareSpace,
    DareTiesSpace,
    Mergeable,
    RecipeSpace,
    SlerpSpace,
    TiesSpace,
    dare,
    dare_ties,
    draws,
    slerp,
    ties,
)
from qdmerge.parts import SPACES
from tests.checkpoints.test_adapter import llama, trained
from tests.trios import SHAPES, Trio, write

KINDS = {"ties": TiesSpace, "dare": DareSpace, "dare_ties": DareTiesSpace, "slerp": SlerpSpace}
X = {
    "ties": [0.5, 0.2, 0.9, 0.4, 1.3],
    "dare": [0.5, 0.2, 0.9, 0.4],
    "dare_ties": [0.5, 0.2, 0.9, 0.4],
    "slerp": [1.2, 0.5, 0.3],
}
few = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
shapes = st.dictionaries(
    st.sampled_from(["a.weight", "b", "layers.0.w", "layers.10.w"]),
    st.lists(st.integers(1, 6), max_size=4).map(tuple),
    min_size=1,
)


def build(kind: str, vectors: TaskVectors, **options: object) -> RecipeSpace:
    return SPACES.build(kind, options, {"vectors": vectors})


def by_hand(kind: str, x: list[float], trio: Trio, name: str, seed: int = 0) -> torch.Tensor:
    """One merged tensor from the checkpoints' tensors and the recipe's function."""
    base = trio.base[name]
    models = [tensors[name] for tensors in trio.experts.values()]
    deltas = torch.stack([model - base for model in models])
    us = [draws(seed, expert, name, base.shape) for expert in trio.experts]
    if kind == "slerp":
        merged = slerp(slerp(models[0], models[1], x[1]), models[2], x[2])
        return base + x[0] * (merged - base)
    if kind == "ties":
        return base + x[4] * ties(deltas, x[:3], x[3])
    return base + {"dare": dare, "dare_ties": dare_ties}[kind](deltas, x[:3], x[3], us)


@few
@given(shapes=shapes, experts=st.integers(1, 3), seed=st.integers(0, 9))
def test_seeds_reproduce_base_and_experts(
    make_trio: Callable[..., Trio], shapes: dict, experts: int, seed: int
) -> None:
    trio = make_trio(shapes, names=("p", "q", "r")[:experts], seed=seed)
    for kind in KINDS:
        if kind == "slerp" and experts == 1:
            continue
        space = build(kind, trio.vectors())
        assert list(space.seeds) == ["base", *trio.experts]
        assert not space.seeds["base"].any()
        for name, tensor in space.tensors(space.seeds["base"]):
            assert torch.equal(tensor, trio.base[name])
        for expert, tensors in trio.experts.items():
            for name, tensor in space.tensors(space.seeds[expert]):
                expected = tensors[name] if tensor.is_floating_point() else trio.base[name]
                torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_merged_by_the_recipe(trio: Trio, kind: str) -> None:
    got = dict(build(kind, trio.vectors()).tensors(X[kind]))
    assert list(got) == list(trio.vectors().names)
    for name in SHAPES:
        expected = by_hand(kind, X[kind], trio, name)
        torch.testing.assert_close(got[name], expected, rtol=1e-5, atol=1e-6)
    assert got["layers.1.steps"].tolist() == [7, 8, 9]


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_and_resident_agree_to_the_bit(trio: Trio, kind: str) -> None:
    kept, streamed = build(kind, trio.vectors()), build(kind, trio.vectors(memory=0))
    for _ in range(2):  # nothing that is kept may have been changed
        for (name, a), (_, b) in zip(kept.tensors(X[kind]), streamed.tensors(X[kind]), strict=True):
            assert torch.equal(a, b), name
    assert len(kept._kept) == len(SHAPES)
    assert not streamed._kept


@pytest.mark.parametrize("kind", KINDS)
def test_attributes(trio: Trio, kind: str) -> None:
    space = build(kind, trio.vectors())
    assert type(space) is KINDS[kind]
    assert space.name == kind
    assert space.dtype == np.float32
    assert space.dim == len(X[kind])
    assert not isinstance(space, Mergeable)
    shares = [3] if kind != "slerp" else [1, 2]
    assert (space.lower_bounds[shares] == 0).all()
    assert (space.upper_bounds[shares] == 1).all()
    assert np.isinf(np.delete(space.upper_bounds, shares)).all()


@pytest.mark.parametrize("kind", ["dare", "dare_ties"])
def test_the_options_of_dare(trio: Trio, kind: str) -> None:
    vectors = trio.vectors()
    got = dict(build(kind, vectors, seed=7).tensors(X[kind]))
    for name in SHAPES:
        expected = by_hand(kind, X[kind], trio, name, seed=7)
        torch.testing.assert_close(got[name], expected, rtol=1e-5, atol=1e-6)
    l1 = dict(build(kind, vectors, seed=7, rescale="l1").tensors([1, 0, 0, 0.5]))
    change = l1["head.weight"] - trio.base["head.weight"]
    whole = trio.experts["coding"]["head.weight"] - trio.base["head.weight"]
    torch.testing.assert_close(change.abs().sum(), whole.abs().sum())
    for wrong in ({"seed": -1}, {"rescale": "l2"}, {"density": 0.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            build(kind, vectors, **wrong)


def test_a_density_means_what_was_written(tmp_path: Path) -> None:
    """0.7 in float32 is below 0.7, and 7 of 10 elements are more than 6.99999."""
    base = write(tmp_path / "base", {"w": torch.zeros(10)})
    expert = write(tmp_path / "expert", {"w": torch.arange(1.0, 11.0)})
    space = TiesSpace(TaskVectors(base, {"expert": expert}))
    ((_, tensor),) = space.tensors([1.0, 0.7, 1.0])
    assert tensor.tolist() == [0, 0, 0, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_export_is_what_was_evaluated(
    make_trio: Callable[..., Trio], tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    trio = make_trio(dtype=dtype)
    space = build(kind, trio.vectors())
    got = load_file(space.export(X[kind], tmp_path / "out") / "model.safetensors")
    assert list(got)
    for name, tensor in space.tensors(X[kind]):
        assert got[name].dtype == trio.base[name].dtype
        assert torch.equal(got[name], tensor)


@pytest.mark.parametrize("kind", KINDS)
def test_no_adapter_holds_a_merge_that_is_not_linear(trio: Trio, tmp_path: Path, kind: str) -> None:
    with pytest.raises(CheckpointError, match=f"{kind} space.*--adapter"):
        build(kind, trio.vectors()).export_adapter(X[kind], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_slerp_needs_two_experts(make_trio: Callable[..., Trio]) -> None:
    with pytest.raises(ConfigError, match="at least 2; there is only 'coding'"):
        SlerpSpace(make_trio(names=("coding",)).vectors())


@pytest.mark.parametrize("memory", [0, 2**28])
def test_lora_experts_of_a_real_model(tmp_path: Path, memory: int) -> None:
    """Two adapters and a whole checkpoint, merged and loaded by transformers."""
    from transformers import AutoModelForCausalLM

    llama().save_pretrained(tmp_path / "base")
    for seed, name in enumerate(("coding", "db")):
        trained(llama(), tmp_path / name, seed, target_modules=["q_proj", "down_proj"])
    whole = llama()
    with torch.no_grad():
        whole.model.norm.weight.mul_(1.5)
    whole.save_pretrained(tmp_path / "os")
    experts = {name: tmp_path / name for name in ("coding", "db", "os")}
    vectors = TaskVectors(tmp_path / "base", experts, memory=memory)
    for kind, space in ((kind, build(kind, vectors)) for kind in KINDS):
        for expert in experts:
            for name, tensor in space.tensors(space.seeds[expert]):
                expected = vectors.base(name) + vectors.delta(expert, name)
                torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)
        path = space.export(X[kind], tmp_path / f"{kind} {memory}")
        exported = AutoModelForCausalLM.from_pretrained(path).state_dict()
        for name, tensor in space.tensors(X[kind]):
            assert torch.equal(exported[name], tensor)


def test_tensors_that_no_expert_changes_are_the_base_s(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "base")
    for seed, name in enumerate(("coding", "db")):
        trained(llama(), tmp_path / name, seed, target_modules=["q_proj"])
    vectors = TaskVectors(tmp_path / "base", {n: tmp_path / n for n in ("coding", "db")})
    x = {"slerp": [1.2, 0.5], "ties": [1, 1, 0.5, 1.2]}
    for kind in KINDS:
        space = build(kind, vectors)
        for name, tensor in space.tensors(x.get(kind, [1, 1, 0.5])):
            assert torch.equal(tensor, vectors.base(name)) == ("q_proj" not in name)
