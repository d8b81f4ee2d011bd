"""The models of a space as functions of ``x`` that torch can differentiate: dense, float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from qdmerge.checkpoints import TaskVectors
from qdmerge.merges import SlerpSpace
from qdmerge.spaces import (
    CoreSpace,
    DenseSpace,
    ExpertSpace,
    LayerSpace,
    RegMeanSpace,
    SpectralSpace,
    WeightSpace,
)

Model = Callable[[torch.Tensor], dict[str, torch.Tensor]]
"""Gives the tensors, by name, of the model of ``x``, ``(dim,)`` float64."""
Inputs = Mapping[str, Mapping[str, torch.Tensor]]
"""Expert to weight's name to what its layer receives, ``(positions, n)`` float64."""


def dense(space: WeightSpace, inputs: Inputs | None = None) -> Model:
    """What :meth:`WeightSpace.tensors` gives, by the space's documented formula.

    ``inputs`` are those of the layers that ``regmean`` measures.
    """
    vectors = space.vectors

    def model(x: torch.Tensor) -> dict[str, torch.Tensor]:
        found, first = {}, 0
        for name in vectors.names:
            found[name] = vectors.base(name)
            if not vectors.is_changed(name):
                continue
            taus = deltas(vectors, name)
            matrix = taus.ndim >= 3
            if isinstance(space, SlerpSpace):
                moved = slerped(x, vectors.base(name).double(), taus)
            elif isinstance(space, ExpertSpace | LayerSpace):
                moved = torch.tensordot(row(space, name, x), taus, 1)
            elif isinstance(space, DenseSpace):
                moved = x[first : first + taus[0].numel()]
                first += len(moved)
            elif not matrix:
                moved = torch.tensordot(x[first : first + len(taus)], taus, 1)
                first += len(taus)
            elif isinstance(space, CoreSpace):
                moved, first = cored(space, name, x, first, taus)
            else:
                received = inputs and {k: inputs[k].get(name) for k in space.experts}
                moved, first = multiplied(space, name, x, first, taus, received)
            found[name] = vectors.base(name).double() + moved.view(vectors.shapes[name])
        return found

    return model


def deltas(vectors: TaskVectors, name: str) -> torch.Tensor:
    """The task vectors of a tensor, ``(K, ...)``."""
    return torch.stack([vectors.delta(expert, name).double() for expert in vectors.experts])


def row(space: ExpertSpace | LayerSpace, name: str, x: torch.Tensor) -> torch.Tensor:
    """A tensor's weights, one per expert."""
    if isinstance(space, ExpertSpace):
        return x
    group = max((group for group in space.groups if name.startswith(group)), key=len)
    return x.view(len(space.groups), -1)[space.groups.index(group)]


def multiplied(
    space: SpectralSpace | RegMeanSpace,
    name: str,
    x: torch.Tensor,
    first: int,
    taus: torch.Tensor,
    received: Mapping[str, torch.Tensor | None] | None,
) -> tuple[torch.Tensor, int]:
    """A merged task vector, and where the next tensor's coordinates begin."""
    count = len(taus)
    rank = len(space.spectral_coordinates(space.experts[0])[space.matrices.index(name)])
    end = first + count * (rank + 1)
    table = x[first:end].view(count, rank + 1)
    multipliers, rest = table[:, :rank], table[:, rank:]
    matrices = taus.flatten(start_dim=2)
    u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
    components = torch.einsum(
        "kmr,kr,krn->kmn",
        u[..., :rank],
        s[:, :rank] * (multipliers - rest),
        vt[:, :rank],
    )
    moved = components + rest[:, :, None] * matrices
    if not received or any(rows is None for rows in received.values()):
        return moved.sum(dim=0), end
    grams = torch.stack([gram(rows, space.width) for rows in received.values()])
    has = [[*(s[k, :rank] > 1e-5 * s.max()).tolist(), True] for k in range(count)]
    owned = zip(table, has, strict=True)
    shares = torch.stack([one[torch.tensor(own)].abs().mean() for one, own in owned])
    n = grams.shape[-1]
    ridge = (space.ridge * 10 ** x[-1]).clamp_min(1e-6 * n) * torch.eye(n)
    mean = torch.tensordot(shares / shares.sum(), grams, 1) + ridge
    return (moved @ (grams + ridge)).sum(dim=0) @ torch.linalg.inv(mean), end


def gram(rows: torch.Tensor, width: int) -> torch.Tensor:
    """Inner products of a layer's inputs, of mean diagonal 1; inputs of other blocks are apart."""
    n = rows.shape[1]
    inner = rows.T @ rows
    size = -(-n // -(-n // width))
    block = torch.arange(n) // size
    inner = inner * (block[:, None] == block)
    return inner / inner.diagonal().mean()


def cored(
    space: CoreSpace, name: str, x: torch.Tensor, first: int, taus: torch.Tensor
) -> tuple[torch.Tensor, int]:
    """As :func:`multiplied`."""
    count, vectors = len(taus), space.vectors
    p, q = space.core_coordinates()[space.matrices.index(name)].shape
    core = slice(first, first + p * q)
    matrices = taus.flatten(start_dim=2)
    whole = (p, q) == matrices.shape[1:]
    known = [not whole and vectors.rank(k, name) > space.rank for k in space.experts]
    end = core.stop + sum(known)
    # The bases are the space's own: others of the same span would give other coordinates.
    left, right = (side.double() for side in space._factors.sides(name, "cpu"))
    cores = torch.stack([torch.tensor(space.seeds[k][core]) for k in space.experts])
    cores = cores.double().view(count, p, q)[known]
    rest = x[core.stop : end]
    change = x[core].view(p, q) - torch.tensordot(rest, cores, 1)
    return torch.tensordot(rest, matrices[known], 1) + left @ change @ right, end


def slerped(x: torch.Tensor, base: torch.Tensor, taus: torch.Tensor) -> torch.Tensor:
    """The scaled way from the base to a chain of spherical interpolations."""
    merged = base + taus[0]
    for tau, t in zip(taus[1:], x[1:], strict=True):
        model = base + tau
        shares = torch.stack([1 - t, t])
        cosine = (merged * model).sum() / (merged.norm() * model.norm())
        if cosine.abs() <= 0.9995:
            angle = torch.acos(cosine)
            shares = torch.sin(shares * angle) / torch.sin(angle)
        merged = shares[0] * merged + shares[1] * model
    return x[0] * (merged - base)
