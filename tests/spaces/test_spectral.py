"""The spectral map and the released code's operators, against dense computations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qdmerge.errors import ConfigError
from qdmerge.operators import LinearCrossover, SVDMutation
from qdmerge.spaces import SpectralSpace
from tests.trios import SHAPES, Trio, write

FULL = 12  # no matrix of SHAPES has a smaller side above 8


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def task_vector(trio: Trio, expert: str, name: str) -> torch.Tensor:
    return trio.experts[expert][name].double() - trio.base[name].double()


def as_matrix(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(tensor.shape[0], -1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), active=st.sampled_from(["coding", "db", "os"]))
def test_released_operators_equal_the_dense_computation(
    trio: Trio, cache: Path, seed: int, active: str
) -> None:
    """theta = base + w1/(w1+w2) tau_p1 + w2/(w1+w2) tau_p2, then tau_l += U diag(w s) V^T."""
    rng = np.random.default_rng(seed)
    space = SpectralSpace(trio.vectors(), FULL, cache)
    parents = rng.normal(size=(2, space.dim)).astype(np.float32)
    taus = [{n: t.double() - trio.base[n] for n, t in space.tensors(p)} for p in parents]

    # The operators, on coordinates.
    w1, w2 = rng.normal(1.0, 0.03, size=2)
    x = (w1 * parents[0] + w2 * parents[1]) / (w1 + w2)
    noise = []
    for positions in space.spectral_coordinates(active):
        noise.append(rng.uniform(0, 0.5, size=len(positions)))
        x[positions] += noise[-1]
    child = dict(space.tensors(x))

    # The same, on dense weights.
    matrices = iter(noise)
    for name in space.vectors.names:
        if name not in SHAPES:
            continue
        tau = (w1 * taus[0][name] + w2 * taus[1][name]) / (w1 + w2)
        if tau.ndim >= 2:
            dense = as_matrix(task_vector(trio, active, name))
            u, s, vt = torch.linalg.svd(dense, full_matrices=False)
            w = torch.from_numpy(next(matrices))
            tau = tau + (u @ torch.diag(w * s) @ vt).reshape(tau.shape)
        expected = trio.base[name].double() + tau
        torch.testing.assert_close(child[name].double(), expected, rtol=1e-4, atol=1e-4)


def test_qdmerge_s_operators_equal_the_dense_computation(trio: Trio, cache: Path) -> None:
    space = SpectralSpace(trio.vectors(), FULL, cache)
    first, second = space.seeds["coding"], space.merge([0, 0.7, 0.4])
    crossed = LinearCrossover()(np.stack([first, second])[None], np.random.default_rng(1))
    mutated = SVDMutation(space, "os", scale=0.3)(crossed, np.random.default_rng(2))
    share = float(crossed[0, space.spectral_coordinates("coding")[0][0]])
    assert share == pytest.approx(0.5, abs=0.1)
    rest = 1 - share
    child = dict(space.tensors(mutated[0]))
    sizes = [len(positions) for positions in space.spectral_coordinates("os")]
    draws = np.random.default_rng(2).uniform(0, 0.3, size=sum(sizes))
    noise = dict(zip(space.matrices, np.split(draws, np.cumsum(sizes)[:-1]), strict=True))
    for name in SHAPES:
        expected = trio.dense({"coding": share, "db": 0.7 * rest, "os": 0.4 * rest}, name)
        if name in noise:
            dense = as_matrix(task_vector(trio, "os", name))
            u, s, vt = torch.linalg.svd(dense, full_matrices=False)
            expected += (u * (torch.from_numpy(noise[name]) * s) @ vt).reshape(expected.shape)
        torch.testing.assert_close(child[name].double(), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(rank=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_components_are_scaled_and_the_rest_is_exact(
    trio: Trio, cache: Path, rank: int, seed: int
) -> None:
    """Every tensor from its own coordinates: multipliers, then the rest, expert by expert."""
    space = SpectralSpace(trio.vectors(), rank, cache)
    x = np.random.default_rng(seed).normal(size=space.dim).astype(np.float32)
    merged, position = dict(space.tensors(x)), 0
    for name in space.vectors.names:
        if name not in SHAPES:
            continue
        expected = trio.base[name].double()
        for expert in trio.experts:
            tau = task_vector(trio, expert, name)
            if tau.ndim < 2:
                expected = expected + x[position] * tau
                position += 1
                continue
            u, s, vt = torch.linalg.svd(as_matrix(tau), full_matrices=False)
            r = min(rank, len(s))
            scaled = torch.full_like(s, x[position + r])
            scaled[:r] = torch.from_numpy(x[position : position + r])
            expected = expected + (u * (scaled * s) @ vt).reshape(tau.shape)
            position += r + 1
        torch.testing.assert_close(merged[name].double(), expected, rtol=1e-4, atol=1e-4)
    assert position == space.dim


def test_spectral_coordinates(trio: Trio, cache: Path) -> None:
    space = SpectralSpace(trio.vectors(), 3, cache)
    seen: set[int] = set()
    for expert in trio.experts:
        positions = space.spectral_coordinates(expert)
        assert len(positions) == len(space.matrices) == 4
        for array in positions:
            assert len(array) == 3
            assert np.issubdtype(array.dtype, np.integer)
            assert (space.seeds[expert][array] == 1).all()
            seen |= set(array.tolist())
    # What is left over: the rest of each matrix, and each vector and scalar.
    assert space.dim - len(seen) == 3 * len(SHAPES)
    with pytest.raises(ValueError, match="'sql'"):
        space.spectral_coordinates("sql")


def test_energy_is_the_kept_share(trio: Trio, cache: Path) -> None:
    matrices = [n for n, shape in SHAPES.items() if len(shape) >= 2]
    taus = [as_matrix(task_vector(trio, "db", n)) for n in matrices]
    kept = sum(float(torch.linalg.svdvals(t)[:2].square().sum()) for t in taus)
    total = sum(float(t.square().sum()) for t in taus)
    space = SpectralSpace(trio.vectors(), 2, cache)
    assert space.energy("db") == pytest.approx(kept / total, rel=1e-4)
    assert SpectralSpace(trio.vectors(), FULL, cache).energy("db") == pytest.approx(1, rel=1e-5)


def test_an_expert_equal_to_the_base(trio: Trio, tmp_path: Path) -> None:
    copy = Trio(trio.base, {"same": trio.base}, trio.base_path, {"same": trio.base_path})
    space = SpectralSpace(copy.vectors(), 2, tmp_path)
    assert space.energy("same") == 1.0
    x = np.random.default_rng(0).normal(size=space.dim)
    for name, tensor in space.tensors(x):
        assert torch.equal(tensor, trio.base[name])


def test_tensors_without_elements(tmp_path: Path) -> None:
    tensors = {"none": torch.zeros(0, 3), "w": torch.ones(2, 2)}
    paths = {n: write(tmp_path / n, tensors) for n in ("base", "db")}
    trio = Trio(tensors, {"db": tensors}, paths["base"], {"db": paths["db"]})
    space = SpectralSpace(trio.vectors(), 2, tmp_path)
    assert {n: tuple(t.shape) for n, t in space.tensors(space.x0)} == {"none": (0, 3), "w": (2, 2)}


def test_rank_must_be_positive(trio: Trio, cache: Path) -> None:
    with pytest.raises(ConfigError, match="'rank'.*got 0"):
        SpectralSpace(trio.vectors(), 0, cache)
