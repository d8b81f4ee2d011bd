"""SLERP on single tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import geometric_slerp

from qdmerge.merges import slerp, slerp_chain

seeds = st.integers(0, 2**16)
between = st.floats(0, 1)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


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
