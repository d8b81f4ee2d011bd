"""Cores and the paper's mutation, against dense computations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import CheckpointError, ConfigError
from qdmerge.operators import ChildSVDMutation, LinearCrossover
from qdmerge.spaces import (
    CoreSpace,
    SpectralSpace,
    WeightSpace,
    singular_value_similarity,
    task_vector_cosine,
)
from tests.trios import SHAPES, Trio, with_adapters, write

FULL = 12  # no matrix of SHAPES has a smaller side above 8
MATRICES = [name for name, shape in SHAPES.items() if len(shape) >= 2]


@pytest.fixture(scope="module")
def mixes(trio: Trio, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trio]:
    """Full checkpoints, adapters, and both."""
    root = tmp_path_factory.mktemp("adapters")
    return {
        "full": trio,
        "lora": with_adapters(trio, root / "lora", {"a": 1, "b": 3}),
        "mixed": with_adapters(trio, root / "mixed", {"a": 2, "b": 5}, full=1),
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def assert_dense(space: WeightSpace, x: np.ndarray, trio: Trio, weights: dict[str, float]) -> None:
    for name, tensor in space.tensors(x):
        if tensor.is_floating_point():
            expected = trio.dense(weights, name)
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-4, atol=1e-4)


mix = st.sampled_from(["full", "lora", "mixed"])
kinds = st.sampled_from(["expert", "layer", "spectral", "core"])


@settings(max_examples=40)
@given(which=mix, kind=kinds, rank=st.integers(1, 9), memory=st.sampled_from([0, 2**25]))
def test_experts_are_reproduced_at_every_rank(
    mixes: dict[str, Trio],
    make_space: Callable[..., WeightSpace],
    which: str,
    kind: str,
    rank: int,
    memory: int,
) -> None:
    trio = mixes[which]
    space = make_space(kind, trio.vectors(memory=memory), rank)
    assert_dense(space, space.seeds["base"], trio, {})
    for expert in trio.experts:
        assert_dense(space, space.seeds[expert], trio, {expert: 1.0})


@settings(max_examples=40)
@given(
    which=mix,
    kind=kinds,
    rank=st.integers(1, 9),
    weights=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
)
def test_a_merge_equals_the_dense_merge(
    mixes: dict[str, Trio],
    make_space: Callable[..., WeightSpace],
    which: str,
    kind: str,
    rank: int,
    weights: list[float],
) -> None:
    trio = mixes[which]
    named = dict(zip(trio.experts, weights, strict=False))
    space = make_space(kind, trio.vectors(), rank)
    assert_dense(space, space.merge(named), trio, named)


def dense_svd(tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    u, s, vt = torch.linalg.svd(tau.reshape(tau.shape[0], -1), full_matrices=False)
    return u, s, vt


@settings(max_examples=30)
@given(which=mix, seed=st.integers(0, 2**16))
def test_the_mutation_equals_the_dense_one(
    mixes: dict[str, Trio], cache: Path, which: str, seed: int
) -> None:
    """tau_l += U diag(w s) V^T with the SVD of the child's whole task vector, at full rank."""
    trio, rng = mixes[which], np.random.default_rng(seed)
    space = CoreSpace(trio.vectors(), FULL, cache)
    parents = np.stack([space.seeds[name] for name in list(trio.experts)[:2]])
    child = LinearCrossover(sigma=0.3)(parents[None], rng)
    before = dict(space.tensors(child[0]))
    mutated = ChildSVDMutation(space, scale=0.5)(child, np.random.default_rng(seed))
    after = dict(space.tensors(mutated[0]))
    draws = np.random.default_rng(seed)
    sizes = [min(core.shape) for core in space.core_coordinates()]
    w = draws.uniform(0, 0.5, size=sum(sizes))
    noise = dict(zip(space.matrices, np.split(w, np.cumsum(sizes)[:-1]), strict=True))
    for name in SHAPES:
        tau = before[name].double() - trio.base[name].double()
        if name in noise:
            u, s, vt = dense_svd(tau)
            # A core may have fewer components than the matrix: the others are zero.
            n = min(len(s), len(noise[name]))
            scaled = torch.zeros_like(s)
            scaled[:n] = torch.from_numpy(noise[name][:n]) * s[:n]
            tau = tau + (u * scaled @ vt).reshape(tau.shape)
        expected = trio.base[name].double() + tau
        torch.testing.assert_close(after[name].double(), expected, rtol=1e-3, atol=1e-3)


def test_cores_are_projections_between_shared_bases(trio: Trio, cache: Path) -> None:
    space = CoreSpace(trio.vectors(), 2, cache)
    assert sorted(space.matrices) == sorted(MATRICES)
    for expert in trio.experts:
        cores = space.cores(space.seeds[expert])
        for name, core in cores.items():
            tau = trio.experts[expert][name] - trio.base[name]
            rows, columns = tau.flatten(1).shape
            assert core.shape == (min(rows, 6), min(columns, 6))
            s = torch.linalg.svdvals(torch.from_numpy(core))
            leading = dense_svd(tau)[1]
            # They hold the expert's leading components, and what else lies in the others'.
            assert (s[:2] >= leading[:2] * (1 - 1e-4)).all()
            assert s.norm() <= leading.norm() * (1 + 1e-4)


def test_coordinates_cover_the_space(mixes: dict[str, Trio], cache: Path) -> None:
    space = CoreSpace(mixes["full"].vectors(), 2, cache)
    positions = np.concatenate([core.ravel() for core in space.core_coordinates()])
    assert len(np.unique(positions)) == len(positions)
    # What is left over: a weight of each expert's rest in each matrix, and of each small tensor.
    assert space.dim - len(positions) == 3 * len(SHAPES)
    assert len(space.cores(space.x0)) == len(MATRICES)
    with pytest.raises(ValueError, match="shape"):
        space.cores(np.zeros(3))


def test_adapters_are_their_cores(mixes: dict[str, Trio], cache: Path) -> None:
    space = CoreSpace(mixes["lora"].vectors(), 4, cache)
    positions = np.concatenate([core.ravel() for core in space.core_coordinates()])
    np.testing.assert_array_equal(np.sort(positions), np.arange(space.dim))
    # The sum of the ranks of those that change the matrix, but no more than its sides.
    first, second = (space.matrices.index(n) for n in ("embed.weight", "head.weight"))
    assert space.core_coordinates()[first].shape == (3, 3)  # the first adapter leaves it out
    assert space.core_coordinates()[second].shape == (4, 4)
    # Below an adapter's rank its rest has a weight.
    truncated = CoreSpace(mixes["lora"].vectors(), 2, cache)
    covered = sum(core.size for core in truncated.core_coordinates())
    touching = sum(mixes["lora"].vectors().rank("b", name) > 2 for name in MATRICES)
    assert touching == 3
    assert truncated.dim - covered == touching


@pytest.mark.parametrize("kind", [SpectralSpace, CoreSpace])
def test_tensors_that_no_expert_changes_have_no_coordinates(
    trio: Trio, tmp_path: Path, kind: type[SpectralSpace] | type[CoreSpace]
) -> None:
    lora = with_adapters(trio, tmp_path, {"a": 2})
    space = kind(lora.vectors(), 3, tmp_path)
    assert "embed.weight" not in space.matrices
    assert space.vectors.is_changed("head.weight")
    for name in ("embed.weight", "layers.0.norm.weight", "scale", "layers.1.steps"):
        assert not space.vectors.is_changed(name)
    x = np.random.default_rng(0).normal(size=space.dim)
    for name, tensor in space.tensors(x):
        assert torch.equal(tensor, trio.base[name]) != space.vectors.is_changed(name)
    if kind is SpectralSpace:  # no more components than the adapter has, and the rest
        assert space.dim == 3 * (2 + 1)


def test_an_adapter_s_factors_are_exact(trio: Trio, tmp_path: Path) -> None:
    lora = with_adapters(trio, tmp_path, {"a": 2, "b": 9})
    space = SpectralSpace(lora.vectors(), 3, tmp_path)
    assert space.energy("a") == pytest.approx(1, abs=1e-6)
    assert space.energy("b") < 0.99
    for name in space.matrices:
        for k, expert in enumerate(space.experts):
            found = space._factors.read(f"{name}/singular")[k]
            s = dense_svd(lora.experts[expert][name] - trio.base[name])[1]
            torch.testing.assert_close(found, s[: len(found)], rtol=1e-4, atol=1e-4)


def test_differences_that_are_not_finite(trio: Trio, tmp_path: Path) -> None:
    base, bad = (trio.base | {"head.weight": torch.full((6, 8), x)} for x in (3e38, -3e38))
    base_path = write(tmp_path / "base", base)
    vectors = TaskVectors(base_path, {"db": write(tmp_path / "db", bad)})
    with pytest.raises(CheckpointError, match=r"'db'.*infinitely in head.weight"):
        CoreSpace(vectors, 2, tmp_path)


def test_adapters_are_as_alike_as_the_checkpoints_they_make(
    mixes: dict[str, Trio], tmp_path: Path
) -> None:
    trio = mixes["mixed"]
    paths = {name: write(tmp_path / name, tensors) for name, tensors in trio.experts.items()}
    dense = TaskVectors(trio.base_path, paths)
    for a, b in (("a", "b"), ("a", "coding")):
        for similarity in (singular_value_similarity, task_vector_cosine):
            expected = similarity(dense, a, b)
            assert similarity(trio.vectors(), a, b) == pytest.approx(expected, abs=1e-4)


def test_rank_must_be_positive(trio: Trio, cache: Path) -> None:
    with pytest.raises(ConfigError, match="'rank'.*got 0"):
        CoreSpace(trio.vectors(), 0, cache)


def test_the_cache_keeps_both_kinds_of_factors(trio: Trio, tmp_path: Path) -> None:
    for _ in range(2):
        CoreSpace(trio.vectors(), 2, tmp_path)
        SpectralSpace(trio.vectors(), 2, tmp_path)
    assert len(list((tmp_path / "factors").glob("*.safetensors"))) == 2
