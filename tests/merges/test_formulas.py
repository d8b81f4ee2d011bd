"""TIES, DARE and SLERP: their definitions, a tensor at a time."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import geometric_slerp

from qdmerge.merges import dare, dare_ties, draws, drop, slerp, slerp_chain, ties, trim

seeds = st.integers(0, 2**16)
densities = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 0.9, 1.0])
between = st.floats(0, 1)
WEIGHTS = [0.7, 0.3, 0.5]


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def by_definition(deltas: np.ndarray, weights: np.ndarray, density: float) -> np.ndarray:
    """TIES element by element, in float64."""
    deltas = deltas.astype(np.float64)
    n = deltas.shape[1]
    for row in deltas:
        order = np.argsort(-abs(row))
        row[order[max(1, int(density * n)) if density > 0 else 0 :]] = 0
    merged = np.zeros(n)
    for i in range(n):
        terms = [(w * d[i], w) for d, w in zip(deltas, weights, strict=True)]
        sign = 1 if sum(term for term, _ in terms) >= 0 else -1
        agreeing = [(term, w) for term, w in terms if term * sign > 0]
        if agreeing:
            merged[i] = sum(term for term, _ in agreeing) / sum(w for _, w in agreeing)
    return merged


@given(seed=seeds, k=st.integers(1, 4), n=st.integers(1, 30), density=densities)
def test_ties_is_its_definition(seed: int, k: int, n: int, density: float) -> None:
    deltas = normal(seed, k, n)
    weights = np.random.default_rng(seed).uniform(0.1, 1, k)
    expected = by_definition(deltas.numpy(), weights, density)
    np.testing.assert_allclose(ties(deltas, weights.tolist(), density), expected, atol=1e-6)


@given(seed=seeds, k=st.integers(1, 4))
def test_with_nothing_to_trim_and_no_conflict_ties_is_the_weighted_mean(seed: int, k: int) -> None:
    sign = normal(seed, 5, 3).sign()
    deltas = normal(seed + 1, k, 5, 3).abs() * sign
    weights = np.random.default_rng(seed).uniform(0.1, 1, k)
    expected = np.average(deltas.double(), axis=0, weights=weights)
    np.testing.assert_allclose(ties(deltas, weights.tolist(), 1.0), expected, rtol=1e-5, atol=1e-6)


@given(seed=seeds, density=densities, factor=st.sampled_from([0.25, 2.0, 16.0]))
def test_ties_scales_with_the_task_vectors_and_not_with_the_weights(
    seed: int, density: float, factor: float
) -> None:
    deltas, weights = normal(seed, 3, 20), [0.5, 0.3, 0.7]
    merged = ties(deltas, weights, density)
    torch.testing.assert_close(ties(factor * deltas, weights, density), factor * merged)
    torch.testing.assert_close(ties(deltas, [factor * w for w in weights], density), merged)


def test_the_minority_has_no_part() -> None:
    deltas = torch.tensor([[3.0, 1.0, 0.0], [1.0, -2.0, 0.0], [-2.0, -4.0, 0.0]])
    assert ties(deltas, [1, 1, 1], 1.0).tolist() == [2.0, -3.0, 0.0]
    assert ties(deltas, [0, 0, 1], 1.0).tolist() == [-2.0, -4.0, 0.0]
    assert ties(deltas, [0, 0, 0], 1.0).tolist() == [0.0, 0.0, 0.0]


@given(seed=seeds, density=st.floats(0.01, 1), shape=st.sampled_from([(), (7,), (4, 5), (2, 3, 2)]))
def test_trimming_keeps_the_largest(seed: int, density: float, shape: tuple[int, ...]) -> None:
    delta = normal(seed, *shape)
    left = trim(delta, density)
    kept = left != 0
    assert kept.sum() == max(1, int(density * delta.numel()))
    assert torch.equal(left[kept], delta[kept])
    assert (~kept).sum() == 0 or delta[~kept].abs().max() <= delta[kept].abs().min()


def test_trimming_at_the_ends() -> None:
    delta = normal(0, 6)
    assert torch.equal(trim(delta, 1.0), delta)
    assert not trim(delta, 0.0).any()
    assert trim(torch.zeros(0), 0.5).shape == (0,)
    assert trim(torch.tensor([1.0, -1.0, 1.0, 0.5]), 0.25).tolist() == [1.0, -1.0, 1.0, 0.0]


def test_as_many_weights_as_task_vectors() -> None:
    with pytest.raises(ValueError, match="zip"):
        ties(normal(0, 3, 4), [1.0, 1.0], 1.0)


def drawn(seed: int, k: int, *shape: int) -> list[torch.Tensor]:
    return [draws(seed, f"expert{i}", "w", shape) for i in range(k)]


def left_by_definition(deltas: torch.Tensor, us: list[torch.Tensor], density: float) -> np.ndarray:
    if density == 0:
        return np.zeros(deltas.shape)
    return np.where(np.stack(us) < density, deltas.double().numpy() / density, 0)


@given(seed=seeds, density=densities)
def test_dare_is_its_definition(seed: int, density: float) -> None:
    deltas, us = normal(seed, 3, 4, 5), drawn(seed, 3, 4, 5)
    expected = np.tensordot(WEIGHTS, left_by_definition(deltas, us, density), axes=1)
    merged = dare(deltas, WEIGHTS, density, us)
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-5)
    assert merged.dtype == torch.float32


@given(seed=seeds, density=densities)
def test_dare_ties_is_its_definition(seed: int, density: float) -> None:
    deltas, us = normal(seed, 3, 4, 5), drawn(seed, 3, 4, 5)
    terms = np.array(WEIGHTS)[:, None, None] * left_by_definition(deltas, us, density)
    agrees = np.sign(terms) == np.where(terms.sum(axis=0) >= 0, 1, -1)
    merged = dare_ties(deltas, WEIGHTS, density, us)
    np.testing.assert_allclose(merged, (terms * agrees).sum(axis=0), rtol=1e-5, atol=1e-5)


def test_the_expectation_is_the_weighted_sum() -> None:
    deltas = normal(0, 3, 4)
    n = 4000
    mean = sum(dare(deltas, WEIGHTS, 0.3, drawn(seed, 3, 4)) for seed in range(n)) / n
    expected = torch.tensor(WEIGHTS) @ deltas
    deviation = (0.7 / 0.3 / n * (torch.tensor(WEIGHTS) ** 2 @ deltas**2)).sqrt()
    assert ((mean - expected).abs() < 4 * deviation).all()


@given(seed=seeds, density=st.floats(0.3, 1))
def test_l1_restores_the_sum_of_magnitudes(seed: int, density: float) -> None:
    delta = normal(seed, 50)
    left = drop(delta, draws(seed, "a", "w", (50,)), density, "l1")
    torch.testing.assert_close(left.abs().sum(), delta.abs().sum())


def test_nothing_left_is_no_division_by_zero() -> None:
    delta, ones = normal(0, 5), torch.full((5,), 0.99)
    assert not drop(delta, ones, 0.5, "l1").any()
    assert not drop(delta, torch.zeros(5), 0.0).any()
    assert not drop(torch.zeros(5), torch.zeros(5), 0.5, "l1").any()


def test_less_is_dropped_of_the_same_at_a_higher_density() -> None:
    delta, u = normal(0, 200), draws(3, "coding", "w", (200,))
    few, many = (drop(delta, u, density) != 0 for density in (0.2, 0.6))
    assert (many | ~few).all()
    assert 0.1 < few.float().mean() < 0.3
    assert 0.5 < many.float().mean() < 0.7


def test_draws_depend_on_seed_expert_and_tensor_alone() -> None:
    u = draws(3, "coding", "layers.0.w", (2, 3))
    code = (
        "import torch; torch.manual_seed(1); torch.set_default_dtype(torch.bfloat16)\n"
        "from qdmerge.merges import draws\n"
        "print(draws(3, 'coding', 'layers.0.w', (2, 3)).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(u.tolist())
    others = [draws(4, "coding", "layers.0.w", (2, 3)), draws(3, "db", "layers.0.w", (2, 3))]
    others.append(draws(3, "coding", "layers.1.w", (2, 3)))
    assert not any(torch.equal(u, other) for other in others)


@given(seed=seeds, t=between, n=st.integers(2, 9))
def test_between_unit_vectors_slerp_is_scipy_s(seed: int, t: float, n: int) -> None:
    a, b = (v / v.norm() for v in normal(seed, 2, n).double())
    if abs(a @ b) > 0.99:
        return
    merged = slerp(a.float(), b.float(), t)
    np.testing.assert_allclose(merged, geometric_slerp(a.numpy(), b.numpy(), t), atol=1e-5)
    assert float(merged.norm()) == pytest.approx(1, abs=1e-5)


@given(seed=seeds, shape=st.sampled_from([(), (1,), (8,), (3, 4), (2, 3, 2, 2)]))
def test_the_ends_are_the_models(seed: int, shape: tuple[int, ...]) -> None:
    a, b = normal(seed, 2, *shape)
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    torch.testing.assert_close(slerp(a, b, 0.3), slerp(b, a, 0.7), rtol=1e-4, atol=1e-5)


def test_collinear_opposite_and_zero_tensors_are_interpolated_linearly() -> None:
    a = normal(0, 10)
    for b in (a, 2 * a, -a, -0.5 * a, torch.zeros(10), a + 1e-3 * normal(1, 10)):
        if b.any():
            torch.testing.assert_close(slerp(a, b, 0.25), 0.75 * a + 0.25 * b)
        assert slerp(a, b, 0.25).isfinite().all()
        assert slerp(b, a, 0.25).isfinite().all()
    assert slerp(torch.zeros(0), torch.zeros(0), 0.5).shape == (0,)


def test_a_chain_goes_from_model_to_model() -> None:
    models = normal(2, 3, 4, 5)
    merged = slerp_chain(models, [0.5, 1 / 3])
    torch.testing.assert_close(merged, slerp(slerp(models[0], models[1], 0.5), models[2], 1 / 3))
    for k, ts in enumerate(([0.0, 0.0], [1.0, 0.0], [0.4, 1.0])):
        torch.testing.assert_close(slerp_chain(models, ts), models[k])
    with pytest.raises(ValueError, match="zip"):
        slerp_chain(models, [0.5])
