"""Mutation: what changes, by how much, and what must not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import ConfigError, UnsupportedError
from qdmerge.operators import (
    Chain,
    ChildSVDMutation,
    GaussianMutation,
    NoMutation,
    SVDMutation,
    chain,
)
from qdmerge.spaces import CoreSpace, ExpertSpace, LayerSpace, SpectralSpace, VectorSpace

RANK = 2
SHAPES = {"a.weight": (4, 3), "a.bias": (4,), "b.weight": (3, 5), "c.weight": (1, 3)}
MATRIX_RANKS = [2, 2, 1]  # min(rank, sides) of a.weight, b.weight and c.weight


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> TaskVectors:
    root = tmp_path_factory.mktemp("models")
    paths = {}
    for seed, name in enumerate(("base", "coding", "db")):
        generator = torch.Generator().manual_seed(seed)
        tensors = {n: torch.randn(s, generator=generator) for n, s in SHAPES.items()}
        paths[name] = root / f"{name}.safetensors"
        save_file(tensors, paths[name])
    return TaskVectors(paths.pop("base"), paths)


@pytest.fixture(scope="module")
def core(vectors: TaskVectors, tmp_path_factory: pytest.TempPathFactory) -> CoreSpace:
    return CoreSpace(vectors, RANK, Path(tmp_path_factory.mktemp("cores")))


@pytest.fixture(scope="module")
def space(vectors: TaskVectors, tmp_path_factory: pytest.TempPathFactory) -> SpectralSpace:
    return SpectralSpace(vectors, RANK, Path(tmp_path_factory.mktemp("factors")))


def deltas(space: SpectralSpace, mutation: SVDMutation, n: int, seed: int = 0) -> np.ndarray:
    """What one call of a mutation adds to n children."""
    children = np.random.default_rng(9).normal(size=(n, space.dim)).astype(np.float32)
    before = children.copy()
    mutated = mutation(children, np.random.default_rng(seed))
    np.testing.assert_array_equal(children, before)  # the parents' arrays are not written to
    assert mutated.dtype == np.float32
    return mutated.astype(np.float64) - before


@pytest.mark.parametrize("expert", ["coding", "db"])
@pytest.mark.parametrize("per", ["component", "matrix", "expert"])
def test_only_the_expert_s_spectral_coordinates_change(
    space: SpectralSpace, expert: str, per: str
) -> None:
    own = np.concatenate(space.spectral_coordinates(expert))
    assert len(own) == sum(MATRIX_RANKS)
    changed = deltas(space, SVDMutation(space, expert, scale=0.5, per=per), 50)
    assert (changed[:, own] != 0).mean() > 0.99
    np.testing.assert_array_equal(np.delete(changed, own, axis=1), 0)


@pytest.mark.parametrize(("symmetric", "low", "mean"), [(False, 0.0, 0.25), (True, -0.5, 0.0)])
def test_noise_is_uniform_in_its_range(
    space: SpectralSpace, symmetric: bool, low: float, mean: float
) -> None:
    own = np.concatenate(space.spectral_coordinates("coding"))
    noise = deltas(space, SVDMutation(space, "coding", 0.5, symmetric), 2000)[:, own]
    assert low - 1e-6 <= noise.min() < low + 0.01
    assert 0.49 < noise.max() <= 0.5 + 1e-6
    assert noise.mean() == pytest.approx(mean, abs=0.01)
    assert noise.std() == pytest.approx((0.5 - low) / np.sqrt(12), rel=0.03)


@pytest.mark.parametrize(
    ("per", "draws"), [("component", sum(MATRIX_RANKS)), ("matrix", 3), ("expert", 1)]
)
def test_granularity_says_what_shares_a_draw(space: SpectralSpace, per: str, draws: int) -> None:
    mutation = SVDMutation(space, "db", 0.5, per=per)
    row = deltas(space, mutation, 1)[0]
    matrices = [row[positions] for positions in space.spectral_coordinates("db")]
    assert [len(matrix) for matrix in matrices] == MATRIX_RANKS
    assert len(np.unique(np.concatenate(matrices).round(5))) == draws
    if per != "component":
        assert all(np.ptp(matrix) < 1e-5 for matrix in matrices)


def test_every_child_is_mutated_on_its_own(space: SpectralSpace) -> None:
    own = np.concatenate(space.spectral_coordinates("db"))
    rows = deltas(space, SVDMutation(space, "db", per="expert"), 5)[:, own]
    assert len(np.unique(rows[:, 0])) == 5


def test_scale_zero_changes_nothing(space: SpectralSpace) -> None:
    np.testing.assert_array_equal(deltas(space, SVDMutation(space, "db", 0.0), 3), 0)


@pytest.mark.parametrize("kind", [ExpertSpace, LayerSpace])
def test_svd_names_the_spaces_that_can_serve_it(
    vectors: TaskVectors, kind: Callable[[TaskVectors], ExpertSpace]
) -> None:
    with pytest.raises(UnsupportedError, match=f"'{kind.name}'.*use space 'spectral'"):
        SVDMutation(kind(vectors), "coding")


def test_svd_needs_an_expert(space: SpectralSpace) -> None:
    with pytest.raises(UnsupportedError, match=r"has none.*Task\(expert=\.\.\.\)"):
        SVDMutation(space, None)
    with pytest.raises(UnsupportedError, match="space 'vector'"):
        SVDMutation(VectorSpace({"base": [0.0]}), "coding")


@pytest.mark.parametrize(
    ("options", "named"),
    [({"scale": -1}, "scale"), ({"scale": np.nan}, "scale"), ({"per": "layer"}, "per")],
)
def test_svd_refuses_wrong_options(space: SpectralSpace, options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        SVDMutation(space, "coding", **options)


def core_changes(
    core: CoreSpace, mutation: ChildSVDMutation, n: int = 1
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per matrix, n children's cores and what one call of a mutation adds to them."""
    children = np.random.default_rng(9).normal(size=(n, core.dim)).astype(np.float32)
    before = children.copy()
    mutated = mutation(children, np.random.default_rng(0))
    np.testing.assert_array_equal(children, before)
    assert mutated.dtype == np.float32
    own = np.concatenate([positions.ravel() for positions in core.core_coordinates()])
    np.testing.assert_array_equal(np.delete(mutated, own, axis=1), np.delete(before, own, axis=1))
    return [(before[:, p], (mutated - before)[:, p]) for p in core.core_coordinates()]


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_child_s_singular_values_are_scaled(core: CoreSpace, symmetric: bool) -> None:
    """C + U diag(w s) V^T has the singular directions of C, with factors 1 + w."""
    factors = []
    for cores, added in core_changes(core, ChildSVDMutation(core, 0.5, symmetric), 400):
        u, s, vt = np.linalg.svd(cores.astype(np.float64))
        r = s.shape[-1]
        turned = u.transpose(0, 2, 1) @ added @ vt.transpose(0, 2, 1)
        diagonal = np.einsum("nii->ni", turned[:, :r, :r]).copy()
        turned[:, range(r), range(r)] = 0
        np.testing.assert_allclose(turned, 0, atol=1e-5)
        factors.append((diagonal / s).ravel())
    w = np.concatenate(factors)
    low = -0.5 if symmetric else 0.0
    assert low - 1e-2 <= w.min() < low + 0.02
    assert 0.48 < w.max() <= 0.5 + 1e-2
    assert w.std() == pytest.approx((0.5 - low) / np.sqrt(12), rel=0.05)


@pytest.mark.parametrize(("per", "draws"), [("matrix", 3), ("model", 1)])
def test_components_that_share_a_draw_grow_alike(core: CoreSpace, per: str, draws: int) -> None:
    factors = []
    for cores, added in core_changes(core, ChildSVDMutation(core, 0.5, per=per)):
        factor = added / cores
        np.testing.assert_allclose(factor, factor.mean(), rtol=1e-3)
        factors.append(round(float(factor.mean()), 4))
    assert len(set(factors)) == draws


def test_sharing_a_draw_is_a_special_case_of_drawing_each(core: CoreSpace) -> None:
    class Constant:
        def uniform(self, low: float, high: float, size: tuple[int, ...]) -> np.ndarray:
            return np.full(size, 0.3)

    children = np.random.default_rng(1).normal(size=(2, core.dim)).astype(np.float32)
    results = [
        ChildSVDMutation(core, per=per)(children, Constant())
        for per in ("component", "matrix", "model")
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)
    np.testing.assert_allclose(results[1], results[2], atol=1e-6)


def test_svd_mutations_name_each_other(core: CoreSpace, space: SpectralSpace) -> None:
    with pytest.raises(UnsupportedError, match=r"'core'.*use space 'spectral'.*\(svd_child\)"):
        SVDMutation(core, "coding")
    with pytest.raises(UnsupportedError, match=r"'spectral'.*use space 'core'.*\(svd\)"):
        ChildSVDMutation(space)
    with pytest.raises(UnsupportedError, match=r"'vector'.*\(gaussian, none\)"):
        ChildSVDMutation(VectorSpace({"base": [0.0]}))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"scale": -1}, "scale"), ({"scale": np.nan}, "scale"), ({"per": "expert"}, "per")],
)
def test_child_svd_refuses_wrong_options(core: CoreSpace, options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ChildSVDMutation(core, **options)


def test_child_svd_needs_a_matrix(tmp_path: Path) -> None:
    for i, name in enumerate(("base", "db")):
        save_file({"bias": torch.full((3,), float(i))}, tmp_path / name)
    space = CoreSpace(TaskVectors(tmp_path / "base", {"db": tmp_path / "db"}), 2, tmp_path)
    with pytest.raises(UnsupportedError, match="has none"):
        ChildSVDMutation(space)


def test_gaussian_noise_is_on_every_coordinate() -> None:
    children = np.ones((4000, 3), np.float32)
    mutated = GaussianMutation(0.2)(children, np.random.default_rng(0))
    assert mutated.dtype == np.float32
    np.testing.assert_allclose(mutated.mean(axis=0), 1, atol=0.02)
    np.testing.assert_allclose(mutated.std(axis=0), 0.2, rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(mutated.T), np.eye(3), atol=0.06)
    np.testing.assert_array_equal(children, 1)
    with pytest.raises(ConfigError, match="sigma"):
        GaussianMutation(-0.1)


def test_no_mutation_changes_nothing() -> None:
    children = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(NoMutation()(children.copy(), np.random.default_rng(0)), children)


@given(a=st.floats(-2, 2), b=st.floats(-2, 2))
def test_chain_applies_in_order_and_is_a_mutation(a: float, b: float) -> None:
    def plus(children: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return children + a

    def times(children: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return children * b

    x, rng = np.full((2, 2), 3.0), np.random.default_rng(0)
    np.testing.assert_array_equal(chain(plus, times)(x, rng), (x + a) * b)
    np.testing.assert_array_equal(chain(chain(times), plus)(x, rng), x * b + a)
    np.testing.assert_array_equal(Chain([])(x, rng), x)


def test_chained_mutations_draw_one_after_the_other() -> None:
    children, rng = np.zeros((1, 4)), np.random.default_rng(3)
    mutated = chain(GaussianMutation(1.0), GaussianMutation(1.0))(children, rng)
    draws = np.random.default_rng(3).normal(size=(2, 4))
    np.testing.assert_allclose(mutated[0], draws.sum(axis=0))


@pytest.mark.usefixtures("no_global_randomness")
def test_the_generator_decides(space: SpectralSpace, core: CoreSpace) -> None:
    children = np.ones((3, core.dim), np.float32)
    child = ChildSVDMutation(core)
    first, again, other = (child(children, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    mutations = [
        SVDMutation(space, "coding"),
        SVDMutation(space, "coding", symmetric=True, per="matrix"),
        GaussianMutation(),
    ]
    children = np.zeros((3, space.dim), np.float32)
    for mutation in [*mutations, chain(*mutations)]:
        first, again, other = (mutation(children, np.random.default_rng(s)) for s in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
