"""DARE on single tensors."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from qdmerge.merges import dare, dare_ties, draws, drop

seeds = st.integers(0, 2**16)
densities = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])
WEIGHTS = [0.7, 0.3, 0.5]


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


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
