"""Mutation: a child is varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import numpy as np
from pydantic import Field

from qdmerge.errors import ConfigError, UnsupportedError
from qdmerge.guide import Climb
from qdmerge.options import checked

if TYPE_CHECKING:
    from qdmerge.spaces import Space


class Mutation(Protocol):
    """Varies children."""

    def __call__(self, children: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Vary ``(n, dim)`` children; return as many of the same dtype."""
        ...


@checked
class SVDMutation:
    """Perturbs singular directions of the active task's expert.

    ``tau_l <- tau_l + U diag(w * s) V^T`` per weight matrix l, with U s V^T the expert's task
    vector (the released code of arXiv 2410.14735, section 3.2). A spectral space holds a
    multiplier for each of these singular components, so the mutation adds w to the expert's
    spectral coordinates; one-dimensional tensors and the residual pass unchanged.

    Args:
        space: A space with spectral coordinates.
        expert: Expert of the active task.
        scale: w_max. One-sided w ~ U(0, scale); symmetric w ~ U(-scale, scale).
        symmetric: Draw on both sides of zero.
        per: What shares one draw: every ``component`` has its own (as published), or all
            components of a ``matrix``, or of the whole ``expert``. Independent draws on many
            components average to a uniform push of scale / 2; shared draws vary more.

    Raises:
        UnsupportedError: The space has no spectral coordinates, the model no matrix, or the task
            no expert.
        ConfigError: ``scale`` is negative, or ``per`` unknown.
    """

    def __init__(
        self,
        space: Space,
        expert: str | None,
        scale: Annotated[float, Field(ge=0)] = 0.1,
        symmetric: bool = False,
        per: Literal["component", "matrix", "expert"] = "component",
    ) -> None:
        if not hasattr(space, "spectral_coordinates"):
            other = "svd_child" if hasattr(space, "core_coordinates") else "gaussian, none"
            raise UnsupportedError(
                f"SVD mutation needs spectral coordinates, which space '{space.name}' does not "
                f"have; use space 'spectral', or another mutation ({other})"
            )
        if expert is None:
            raise UnsupportedError(
                "SVD mutation perturbs the active task's expert, but a task has none; name it in "
                "Task(expert=...), or use another mutation (gaussian, none)"
            )
        self.scale = scale
        self.symmetric = symmetric
        self.per = per
        matrices = space.spectral_coordinates(expert)
        if not matrices:
            raise UnsupportedError(
                "SVD mutation needs weight matrices, and this model has none; use another mutation "
                "(gaussian, none)"
            )
        self._coordinates = np.concatenate(matrices)
        sizes = [len(matrix) for matrix in matrices]
        shared = {
            "component": np.arange(sum(sizes)),
            "matrix": np.repeat(np.arange(len(sizes)), sizes),
            "expert": np.zeros(sum(sizes), dtype=int),
        }
        self._draw_of_coordinate = shared[per]

    def __call__(self, children: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mutate ``(n, dim)`` children; return as many of the same dtype."""
        low = -self.scale if self.symmetric else 0.0
        draws = rng.uniform(low, self.scale, size=(len(children), self._draw_of_coordinate[-1] + 1))
        mutated = children.copy()
        mutated[:, self._coordinates] += draws[:, self._draw_of_coordinate]
        return mutated


@checked
class ChildSVDMutation:
    """Perturbs singular directions of the child's own task vector: the paper's mutation.

    ``tau_l <- tau_l + U diag(w * s) V^T`` per weight matrix l, with U s V^T the child's task vector
    (arXiv 2410.14735, section 3.2). In a core space ``tau_l = P C Q^T`` with orthonormal P and Q,
    so the SVD is the small core's and the mutation ``C <- C + U diag(w * s) V^T``. What cores do
    not capture of an expert passes unchanged, and so do one-dimensional tensors.

    Args:
        space: A space with cores.
        scale: w_max. One-sided w ~ U(0, scale); symmetric w ~ U(-scale, scale).
        symmetric: Draw on both sides of zero.
        per: What shares one draw: every ``component`` has its own (as published), or all
            components of a ``matrix``, or of the whole ``model``.

    Raises:
        UnsupportedError: The space has no cores, or the model no matrix.
        ConfigError: ``scale`` is negative, or ``per`` unknown.
    """

    def __init__(
        self,
        space: Space,
        scale: Annotated[float, Field(ge=0)] = 0.1,
        symmetric: bool = False,
        per: Literal["component", "matrix", "model"] = "component",
    ) -> None:
        if not hasattr(space, "core_coordinates"):
            other = "svd" if hasattr(space, "spectral_coordinates") else "gaussian, none"
            raise UnsupportedError(
                f"SVD mutation of the child needs cores, which space '{space.name}' does not have; "
                f"use space 'core', or another mutation ({other})"
            )
        self.scale = scale
        self.symmetric = symmetric
        self.per = per
        cores: tuple[np.ndarray, ...] = space.core_coordinates()
        if not cores:
            raise UnsupportedError(
                "SVD mutation needs weight matrices, and this model has none; use another mutation "
                "(gaussian, none)"
            )
        self._draws = 0
        groups: dict[tuple[int, ...], tuple[list[np.ndarray], list[np.ndarray]]] = {}
        for number, core in enumerate(cores):
            size = min(core.shape)
            own = {
                "component": np.arange(self._draws, self._draws + size),
                "matrix": np.full(size, number),
                "model": np.zeros(size, dtype=int),
            }[per]
            self._draws = int(own[-1]) + 1
            positions, draws = groups.setdefault(core.shape, ([], []))
            positions.append(core)
            draws.append(own)
        # Cores of one shape are decomposed together: positions (g, p, q), draws (g, min(p, q)).
        self._groups = [(np.stack(cores), np.stack(draws)) for cores, draws in groups.values()]

    def __call__(self, children: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mutate ``(n, dim)`` children; return as many of the same dtype."""
        low = -self.scale if self.symmetric else 0.0
        draws = rng.uniform(low, self.scale, size=(len(children), self._draws))
        mutated = children.copy()
        for positions, own in self._groups:
            w = draws[:, own].astype(children.dtype)
            cores = children[:, positions]
            if self.per == "component":
                u, s, vt = np.linalg.svd(cores, full_matrices=False)
                cores += (u * (w * s)[..., None, :]) @ vt
            else:  # all components by one factor: no need to know them
                cores *= 1 + w[..., :1, None]
            mutated[:, positions] = cores
        return mutated


@checked
@dataclass(frozen=True)
class GaussianMutation:
    """Adds N(0, sigma^2) to every coordinate.

    The paper's ablation adds Gaussian noise to the weights themselves; here the noise is on the
    coordinates, which is what a genome can express.

    Args:
        sigma: Standard deviation in units of coordinates (1 is an expert's whole weight).

    Raises:
        ConfigError: ``sigma`` is negative.
    """

    sigma: Annotated[float, Field(ge=0)] = 0.05

    def __call__(self, children: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mutate ``(n, dim)`` children; return as many of the same dtype."""
        noise = rng.normal(0.0, self.sigma, size=children.shape)
        return children + noise.astype(children.dtype)


@checked
@dataclass(frozen=True)
class GuidedMutation:
    """Improves a child by a few steps of the guide, in the worker that scores it.

    The loss of a step is the tasks' losses, weighted by ``focus`` on the active task and the rest
    by a draw from a symmetric Dirichlet distribution over all tasks, so that children spread over
    the front. See :class:`qdmerge.guide.Climb`.

    Args:
        task: The active task.
        tasks: All tasks, in the order of the scores.
        steps: Steps of Adam for each child.
        rate: First rate, in units of the space; it falls to 0 over the steps.
        focus: Share of the active task in the loss before the draw, 0 to 1.
        concentration: Of the Dirichlet distribution; high ones make all tasks count alike.
        batch: Items of a step, over all tasks.

    Raises:
        ConfigError: An option is out of bounds.
    """

    task: str
    tasks: Sequence[str]
    steps: Annotated[int, Field(ge=1)] = 10
    rate: Annotated[float, Field(gt=0)] = 0.03
    focus: Annotated[float, Field(ge=0, le=1)] = 0.3
    concentration: Annotated[float, Field(gt=0)] = 1.0
    batch: Annotated[int, Field(ge=1)] = 24

    def __call__(self, children: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the ``(n, dim)`` children unchanged: they are improved before they are scored."""
        return children

    def errands(self, n: int, rng: np.random.Generator) -> list[Climb]:
        """Return the climb of each of ``n`` children."""
        own = np.array([task == self.task for task in self.tasks])
        alpha = np.full(len(own), self.concentration)
        shares = self.focus * own + (1 - self.focus) * rng.dirichlet(alpha, n)
        seeds = rng.integers(2**31, size=n).tolist()
        return [
            Climb(tuple(row), self.steps, self.rate, self.batch, seed)
            for row, seed in zip(shares.tolist(), seeds, strict=True)
        ]


@dataclass(frozen=True)
class NoMutation:
    """Leaves children as they are."""

    def __call__(self, children: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the ``(n, dim)`` children unchanged."""
        return children


@dataclass(frozen=True)
class Chain:
    """Mutations one after the other; a chain is a mutation. One of them, at most, is guided.

    Raises:
        ConfigError: Two are guided.
    """

    mutations: Sequence[Mutation]

    def __post_init__(self) -> None:
        if sum(hasattr(mutation, "errands") for mutation in self.mutations) > 1:
            raise ConfigError("a child climbs once: leave one guided mutation in the list")

    def __call__(self, children: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mutate ``(n, dim)`` children; return as many of the same dtype."""
        for mutation in self.mutations:
            children = mutation(children, rng)
        return children

    def errands(self, n: int, rng: np.random.Generator) -> list[Climb] | None:
        """Return the climbs of ``n`` children, if a mutation of the chain is guided."""
        guided = [mutation for mutation in self.mutations if hasattr(mutation, "errands")]
        return guided[0].errands(n, rng) if guided else None


def chain(*mutations: Mutation) -> Chain:
    """Chain mutations: ``chain(SVDMutation(...), GaussianMutation(0.01))``."""
    return Chain(mutations)
