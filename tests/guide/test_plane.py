"""Planes: one climb, a solution for any task weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from qdmerge.errors import ConfigError, EvaluationError
from qdmerge.guide import Plane, PlaneClimb, spread_weights
from qdmerge.spaces import ModuleGuide, Space, VectorSpace
from tests.spaces.networks import Net

PEAKS = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.0], [-1.0, -0.5, 2.0]])


class Bowls:
    """Task k's loss is a bowl of the same shape around its own peak, so the front is a plane."""

    shape = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.2], [0.0, 0.2, 0.5]])

    def __init__(self) -> None:
        self.sizes = {"a": 10, "b": 7, "c": 4}
        self.asked: list[tuple[np.ndarray, dict[str, float]]] = []

    def gradient(
        self, x: np.ndarray, rows: Mapping[str, np.ndarray], shares: Mapping[str, float]
    ) -> tuple[dict[str, float], np.ndarray]:
        self.asked.append((x, dict(shares)))
        away = x - PEAKS
        losses = np.einsum("ki,ij,kj->k", away, self.shape, away) / 2
        gradient = np.array(list(shares.values())) @ away @ self.shape
        return dict(zip(self.sizes, losses.tolist(), strict=True)), gradient.astype(np.float32)


class UnevenSpace(VectorSpace):
    """Coordinates that move in units of their own."""

    units = np.array([0.5, 1.0, 2.0], np.float32)


def space(cls: type[VectorSpace] = VectorSpace, **bounds: float) -> Space:
    return cls({"base": np.zeros(3)}, **bounds)


def simplex(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(3), n)


@pytest.mark.parametrize("cls", [VectorSpace, UnevenSpace])
def test_a_front_that_is_a_plane_is_found(cls: type[VectorSpace]) -> None:
    plane, _ = PlaneClimb(steps=1000)(Bowls(), space(cls), np.array([3.0, 3.0, 3.0]))
    for weights in simplex(20):  # the minimizer of equal bowls is the weighted mean of their peaks
        np.testing.assert_allclose(plane.at(weights), weights @ PEAKS, atol=1e-3)


@pytest.mark.parametrize("cls", [VectorSpace, UnevenSpace])
def test_each_step_descends_the_weighted_loss_by_the_chain_rule(cls: type[VectorSpace]) -> None:
    """Against Adam on finite differences of the loss as a function of x_0 and the directions."""
    guide, where, climb = Bowls(), space(cls), PlaneClimb(steps=3, rate=0.2)
    climb(guide, where, np.zeros(3))
    parts, mean, square = np.zeros((4, 3)), 0.0, 0.0

    def solution(parts: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return where.units * (parts[0] + weights @ parts[1:])

    def loss(parts: np.ndarray, weights: np.ndarray) -> float:
        away = solution(parts, weights) - PEAKS
        return float(weights @ np.einsum("ki,ij,kj->k", away, Bowls.shape, away) / 2)

    for step, (x, shares) in enumerate(guide.asked):
        weights = np.array(list(shares.values()))
        np.testing.assert_allclose(x, solution(parts, weights), atol=1e-5)
        slope = np.zeros((4, 3))
        for place in np.ndindex(4, 3):
            nudge = np.zeros((4, 3))
            nudge[place] = 1e-5
            slope[place] = (loss(parts + nudge, weights) - loss(parts - nudge, weights)) / 2e-5
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        rise = np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8
        rate = climb.rate * (1 - step / climb.steps)
        parts = parts - rate * mean / (1 - 0.9 ** (step + 1)) / rise


def test_weights_are_drawn_anew_each_step_from_the_dirichlet() -> None:
    guide = Bowls()
    PlaneClimb(steps=400, concentration=0.7)(guide, space(), np.zeros(3))
    drawn = np.array([list(shares.values()) for _, shares in guide.asked])
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / 3, atol=0.05)
    np.testing.assert_allclose(drawn.var(axis=0), 2 / 9 / (3 * 0.7 + 1), atol=0.015)


def test_one_seed_one_plane() -> None:
    def corners(seed: int) -> np.ndarray:
        return PlaneClimb(steps=20, seed=seed)(Bowls(), space(), np.zeros(3))[0].corners

    np.testing.assert_array_equal(corners(1), corners(1))
    assert not np.allclose(corners(1), corners(2))


def test_solutions_stay_within_the_bounds() -> None:
    bounded, guide = space(lower=-0.5, upper=0.5), Bowls()
    plane, _ = PlaneClimb(steps=200)(guide, bounded, np.zeros(3))
    for x in [*(x for x, _ in guide.asked), *map(plane.at, simplex(9))]:
        assert (np.abs(x) <= 0.5).all()
    assert np.abs(plane.at([0, 0, 1])).max() == 0.5


def test_a_plane_has_the_dtype_of_its_space() -> None:
    single = Space(seeds={"base": np.zeros(2)}, dtype=np.float32)
    plane = Plane(single, np.array([[1, 0], [0, 1]], np.float32))
    assert plane.at([0.25, 0.75]).dtype == np.float32
    np.testing.assert_array_equal(plane.at([0.25, 0.75]), np.array([0.25, 0.75], np.float32))


def test_a_climb_that_leaves_the_numbers_says_what_to_do() -> None:
    class Cliff(Bowls):
        def gradient(self, x, rows, shares):
            losses, gradient = super().gradient(x, rows, shares)
            return losses, gradient * np.float32(np.inf)

    with pytest.raises(EvaluationError, match="step 1 of a plane .* lower 'rate'"):
        PlaneClimb()(Cliff(), space(), np.ones(3))
    with pytest.raises(ConfigError, match="'concentration'"):
        PlaneClimb(concentration=0)


def network() -> Net:
    """A network with the counter that every trio has."""
    net = Net()
    net.layers = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    net.layers[1].register_buffer("steps", torch.zeros(3, dtype=torch.int64))
    return net


@pytest.mark.parametrize("kind", ["core", "spectral"])
def test_every_preference_gets_a_network_nearer_to_its_experts(
    make_trio, make_space, tmp_path, kind: str
) -> None:
    """Of merged networks, as a checkpoint on disk holds them, against the best single network."""
    trio = make_trio({name: tuple(one.shape) for name, one in Net().state_dict().items()})
    where, module = make_space(kind, trio.vectors()), network()
    images = torch.randn(24, 2, 7, 6, generator=torch.Generator().manual_seed(1))
    said = {}
    for name in where.experts:
        where.express(where.seeds[name], module)
        said[name] = module(images).detach()

    def loss(task: str, rows: np.ndarray, net: torch.nn.Module = module) -> torch.Tensor:
        return (net(images[rows]) - said[task][rows]).abs().mean()

    guide = ModuleGuide(where, module, loss, dict.fromkeys(where.experts, 24))
    x0 = np.mean([where.seeds[name] for name in where.experts], axis=0)
    plane, passes = PlaneClimb(steps=60, batch=24)(guide, where, x0)
    assert passes == 60

    def losses(x: np.ndarray, folder: str) -> np.ndarray:
        net = network()
        net.load_state_dict(load_file(where.export(x, tmp_path / folder) / "model.safetensors"))
        return np.array([loss(name, np.arange(24), net).item() for name in where.experts])

    middle = losses(plane.at([1 / 3] * 3), "middle")
    assert middle.mean() < losses(x0, "start").mean()
    for k, weights in enumerate(np.eye(3) * 0.7 + 0.1):
        assert weights @ losses(plane.at(weights), f"near-{k}") < weights @ middle


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 3, 8])
def test_spread_weights_lie_on_the_simplex_the_middle_first(count: int, samples: int) -> None:
    weights = spread_weights(count, samples)
    assert weights.shape == (samples, count)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights[0], 1 / count)
    np.testing.assert_array_equal(spread_weights(count, samples)[:2], weights[:2])
    if count == 3 and samples == 8:
        np.testing.assert_allclose(weights[2], [0.1, 0.8, 0.1])
