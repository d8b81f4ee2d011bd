"""The models of a space as functions of ``x`` that torch can differentiate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import numpy as np
import torch

from qdmerge.spaces import CoreSpace, ExpertSpace, LayerSpace, RegMeanSpace, SpectralSpace
from qdmerge.spaces import WeightSpace as Space

Weights = Callable[[torch.Tensor], dict[str, torch.Tensor]]
"""Gives the tensors, by name, of the model of ``x``, ``(dim,)`` float32."""
Part = Callable[[torch.Tensor], torch.Tensor]
"""Gives one of them."""


def differentiable(space: Space) -> tuple[Weights, torch.Tensor]:
    """What :meth:`WeightSpace.tensors` gives, differentiable, by the space's documented formula.

    All task vectors and factors are held in memory.

    Returns:
        The function; and for each coordinate, ``(dim,)``, a change of it that matters: 1 for a
        multiplier, the experts' root mean square for the cores of a matrix.

    Raises:
        AssertionError: The result differs from the space's own.
    """
    vectors, units, first = space.vectors, torch.ones(space.dim), 0
    parts: dict[str, Part] = {}
    for name in vectors.names:
        base = vectors.base(name)
        if not vectors.is_changed(name):
            parts[name] = partial(_constant, base)
            continue
        deltas = torch.stack([vectors.delta(expert, name) for expert in vectors.experts])
        if isinstance(space, RegMeanSpace):
            parts[name], first = _regression(space, name, base, deltas, first)
        elif isinstance(space, SpectralSpace):
            parts[name], first = _spectral(space, name, base, deltas, first)
        elif isinstance(space, CoreSpace):
            parts[name], first = _core(space, name, base, deltas, first, units)
        else:
            parts[name] = partial(_linear, base, deltas, _row(space, name))

    def weights(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: part(x) for name, part in parts.items()}

    _check(space, weights, units)
    return weights, units


def _constant(base: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return base


def _linear(base: torch.Tensor, deltas: torch.Tensor, row: slice, x: torch.Tensor) -> torch.Tensor:
    return base + torch.tensordot(x[row], deltas, dims=1)


def _row(space: Space, name: str) -> slice:
    """Where a tensor's coefficients, one per expert, are in ``x``."""
    count = len(space.experts)
    if isinstance(space, ExpertSpace):
        return slice(count)
    assert isinstance(space, LayerSpace)
    group = max((group for group in space.groups if name.startswith(group)), key=len)
    start = count * space.groups.index(group)
    return slice(start, start + count)


def _spectral(
    space: SpectralSpace | RegMeanSpace,
    name: str,
    base: torch.Tensor,
    deltas: torch.Tensor,
    first: int,
) -> tuple[Part, int]:
    """A tensor's function, and where the next tensor's coordinates begin."""
    count = len(deltas)
    if name not in space.matrices:
        return partial(_linear, base, deltas, slice(first, first + count)), first + count
    rank = len(space.spectral_coordinates(space.experts[0])[space.matrices.index(name)])
    left, right = space._factors.sides(name, "cpu")  # as computed once, ties and all
    block = slice(first, first + count * (rank + 1))

    def part(x: torch.Tensor) -> torch.Tensor:
        table = x[block].view(count, rank + 1)
        rest = table[:, rank]
        moved = (left * (table[:, :rank] - rest[:, None]).reshape(-1)) @ right
        return base + torch.tensordot(rest, deltas, dims=1) + moved.view_as(base)

    return part, block.stop


def _regression(
    space: RegMeanSpace, name: str, base: torch.Tensor, deltas: torch.Tensor, first: int
) -> tuple[Part, int]:
    """As :func:`_spectral`; float64 inside, and for layers of one block of inputs only."""
    linear, end = _spectral(space, name, base, deltas, first)
    if name not in space._measured:
        return linear, end
    inner = space._inner_products()
    grams = torch.cat([inner.read(f"{k}/{name}", "cpu") for k in space.experts]).double()
    count, n = len(deltas), grams.shape[-1]
    assert len(grams) == count, f"{name} has more inputs than the space's width"
    deltas = deltas.double().view(count, -1, n)
    left, right = (part.double() for part in space._factors.sides(name, "cpu"))
    rank = len(right) // count
    left, right = left.view(-1, count, rank), right.view(count, rank, n)
    real = torch.nn.functional.pad(space._factors.read(f"{name}/singular") > 0, (0, 1), value=True)

    def part(x: torch.Tensor) -> torch.Tensor:
        table = x[first:end].view(count, rank + 1).double()
        rest = table[:, rank:]
        taus = torch.einsum("mkr,kr,krn->kmn", left, table[:, :rank] - rest, right)
        taus = taus + rest[:, :, None] * deltas
        sizes = (table.abs() * real).sum(dim=1) / real.sum(dim=1)
        ridge = (space.ridge * 10 ** x[-1].double()).clamp_min(1e-6 * n)
        diagonal = ridge * torch.eye(n, dtype=torch.float64)
        mean = torch.tensordot(sizes / sizes.sum(), grams, 1) + diagonal
        moved = torch.linalg.solve(mean, (taus @ (grams + diagonal)).sum(dim=0).mT).mT
        return base + moved.reshape(base.shape).float()

    return part, end


def _core(
    space: CoreSpace,
    name: str,
    base: torch.Tensor,
    deltas: torch.Tensor,
    first: int,
    units: torch.Tensor,
) -> tuple[Part, int]:
    """As :func:`_spectral`; writes the units of the cores."""
    count, vectors = len(deltas), space.vectors
    if name not in space.matrices:
        return partial(_linear, base, deltas, slice(first, first + count)), first + count
    p, q = space.core_coordinates()[space.matrices.index(name)].shape
    core = slice(first, first + p * q)
    whole = p * q == prod(base.shape)
    known = [not whole and vectors.rank(k, name) > space.rank for k in space.experts]
    rests = slice(core.stop, core.stop + sum(known))
    # The bases are the space's own: others of the same span would give other coordinates.
    left, right = space._factors.sides(name, "cpu")
    cores = torch.stack([torch.tensor(space.seeds[k][core]) for k in space.experts])
    units[core] = cores.square().mean().sqrt()
    cores, deltas = cores.view(count, p, q)[known], deltas[known]

    def part(x: torch.Tensor) -> torch.Tensor:
        rest = x[rests]
        change = x[core].view(p, q) - torch.tensordot(rest, cores, dims=1)
        return base + torch.tensordot(rest, deltas, dims=1) + (left @ change @ right).view_as(base)

    return part, rests.stop


def _check(space: Space, weights: Weights, units: torch.Tensor) -> None:
    """Compares the weights of a model that lies nowhere in particular."""
    noise = np.random.default_rng(0).normal(size=space.dim)
    x = space.check(space.x0 + 0.3 * units.numpy() * noise)
    found = weights(torch.from_numpy(x))
    for name, tensor in space.tensors(x):
        error = float((found[name] - tensor).detach().abs().max())
        assert error < 1e-4, f"{space.name}: {name} differs by {error:g}"
