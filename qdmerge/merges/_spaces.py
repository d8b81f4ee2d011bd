"""Spaces of recipes that are not linear in the task vectors: their free parameters are ``x``."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from qdmerge.checkpoints import TaskVectors
from qdmerge.errors import ConfigError
from qdmerge.merges._formulas import Rescale, dare, dare_ties, draws, slerp_chain, ties
from qdmerge.options import checked
from qdmerge.spaces import Merger, WeightSpace


class RecipeSpace(WeightSpace):
    """A recipe's free parameters as ``x``; every tensor is merged from its own task vectors.

    Tensors are merged one at a time. Base and task vectors are kept in memory where together, in
    float32, they fit into the task vectors' budget.

    Args:
        vectors: The base and its experts.
        expert_seeds: The experts' coordinates, shape ``(K, dim)``.
        lower: Lower bounds, a number or shape ``(dim,)``.
        upper: Upper bounds, a number or shape ``(dim,)``.
    """

    def __init__(
        self,
        vectors: TaskVectors,
        expert_seeds: np.ndarray,
        lower: npt.ArrayLike = -np.inf,
        upper: npt.ArrayLike = np.inf,
    ) -> None:
        super().__init__(vectors, expert_seeds, lower, upper)
        numbers = sum(math.prod(vectors.shapes[n]) for n in vectors.names if vectors.is_changed(n))
        self._keeps = 4 * numbers * (1 + len(self.experts)) <= vectors.memory
        self._kept: dict[tuple[str, str], tuple[torch.Tensor, list[torch.Tensor]]] = {}

    @abstractmethod
    def _merge(
        self, x: torch.Tensor, name: str, base: torch.Tensor, deltas: Iterable[torch.Tensor]
    ) -> torch.Tensor:
        """Return one merged tensor, as a new one, of solution ``x``; all float32. The deltas are
        the experts' task vectors in order: iterate once, do not change.
        """

    def _merger(self, x: torch.Tensor) -> Merger:
        nothing = torch.zeros(len(self.experts))

        def merged(name: str, device: torch.device | str) -> torch.Tensor:
            if not self.vectors.is_changed(name):
                return self.vectors.combine(name, nothing, device)
            base, deltas = self._read(name, device)
            return self._merge(x, name, base, deltas)

        return merged

    def _read(
        self, name: str, device: torch.device | str
    ) -> tuple[torch.Tensor, Iterable[torch.Tensor]]:
        key = (name, str(device))
        if key in self._kept:
            return self._kept[key]
        base = self.vectors.base(name).to(device, torch.float32, copy=True)
        deltas = (self.vectors.delta(expert, name).to(device) for expert in self.experts)
        if not self._keeps:
            return base, deltas
        self._kept[key] = base, list(deltas)
        return self._kept[key]


class TiesSpace(RecipeSpace):
    """``theta = theta_base + scale * TIES(tau_1 ... tau_K)``: :func:`ties`, tensor by tensor.

    ``x`` holds one weight per expert in order, the density, and the scale (TIES' ``lambda``). Since
    TIES takes a mean, only the weights' ratios matter. A density is rounded to six digits, so that
    0.7 in float32 means 0.7.

    Args:
        vectors: The base and its experts.
    """

    name: ClassVar[str] = "ties"

    def __init__(self, vectors: TaskVectors) -> None:
        k = len(vectors.experts)
        super().__init__(
            vectors,
            np.hstack([np.eye(k), np.ones((k, 2))]),
            lower=[0.0] * k + [0.0, -np.inf],
            upper=[np.inf] * k + [1.0, np.inf],
        )

    def _merge(
        self, x: torch.Tensor, name: str, base: torch.Tensor, deltas: Iterable[torch.Tensor]
    ) -> torch.Tensor:
        *weights, density, scale = x.tolist()
        return base.add(ties(deltas, weights, round(density, 6)), alpha=scale)


@checked
class DareSpace(RecipeSpace):
    """``theta = theta_base + sum_k w_k DARE(tau_k)``: :func:`dare`, tensor by tensor.

    ``x`` holds one weight per expert in order, and the density. A model is a function of ``x``: the
    elements dropped depend on the seed, the expert's name and the tensor's, and a higher density
    drops fewer of the same. A density is rounded to six digits.

    Args:
        vectors: The base and its experts.
        seed: Seed of the elements dropped.
        rescale: ``"density"`` as in the paper, or ``"l1"`` as mergekit does; see :func:`drop`.
    """

    name: ClassVar[str] = "dare"
    _formula = staticmethod(dare)

    def __init__(
        self,
        vectors: TaskVectors,
        seed: Annotated[int, Field(ge=0)] = 0,
        rescale: Rescale = "density",
    ) -> None:
        k = len(vectors.experts)
        self._draw_seed = seed
        self._rescale: Rescale = rescale
        super().__init__(
            vectors,
            np.hstack([np.eye(k), np.ones((k, 1))]),
            lower=[-np.inf] * k + [0.0],
            upper=[np.inf] * k + [1.0],
        )

    def _merge(
        self, x: torch.Tensor, name: str, base: torch.Tensor, deltas: Iterable[torch.Tensor]
    ) -> torch.Tensor:
        *weights, density = x.tolist()
        drawn = (draws(self._draw_seed, expert, name, base.shape) for expert in self.experts)
        return base + self._formula(deltas, weights, round(density, 6), drawn, self._rescale)


class DareTiesSpace(DareSpace):
    """:class:`DareSpace` with sign election: :func:`dare_ties`, tensor by tensor."""

    name: ClassVar[str] = "dare_ties"
    _formula = staticmethod(dare_ties)


class SlerpSpace(RecipeSpace):
    """``theta = theta_base + scale * (SLERP(theta_1 ... theta_K) - theta_base)``.

    ``x`` holds the scale, then ``t_2 ... t_K`` of :func:`slerp_chain` over the experts in order,
    tensor by tensor.

    Args:
        vectors: The base and at least two experts.

    Raises:
        ConfigError: There is only one expert.
    """

    name: ClassVar[str] = "slerp"
    differentiable: ClassVar[bool] = True

    def __init__(self, vectors: TaskVectors) -> None:
        k = len(vectors.experts)
        if k < 2:
            raise ConfigError(
                f"space 'slerp' goes from one expert to the next, so it needs at least 2; there "
                f"{'is only ' + repr(vectors.experts[0]) if k else 'is none'}"
            )
        seeds = np.eye(k)
        seeds[:, 0] = 1
        super().__init__(
            vectors,
            seeds,
            lower=[-np.inf] + [0.0] * (k - 1),
            upper=[np.inf] + [1.0] * (k - 1),
        )

    def _merge(
        self, x: torch.Tensor, name: str, base: torch.Tensor, deltas: Iterable[torch.Tensor]
    ) -> torch.Tensor:
        scale, *ts = x.double().unbind()
        return base.lerp(slerp_chain((base + delta for delta in deltas), ts), scale.to(base))
