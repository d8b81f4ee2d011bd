"""A front as a plane: one climb learns a model for every preference among the tasks.

Pareto Merging (`arXiv 2408.12105 <https://arxiv.org/abs/2408.12105>`_) in the coordinates of a
space: ``x(w) = x_0 + sum_k w_k d_k`` for task weights ``w`` on the simplex. There ``x_0`` and the
mean of the directions are exchangeable, so that the K corners ``x_0 + d_k`` say it all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from qdmerge.errors import EvaluationError
from qdmerge.guide._climb import draw_rows
from qdmerge.options import checked

if TYPE_CHECKING:
    from qdmerge.spaces import Guide, Space


@dataclass(frozen=True, eq=False)
class Plane:
    """A solution for any task weights.

    Attributes:
        space: The space of the solutions.
        corners: ``(K, dim)`` in the space's dtype; the k-th belongs to weight 1 of task k. They
            may lie outside the bounds.
    """

    space: Space
    corners: np.ndarray

    def at(self, weights: npt.ArrayLike) -> np.ndarray:
        """Return the solution of task weights: the weighted sum of corners, within the bounds.

        Args:
            weights: ``(K,)``, at least 0, with a sum of 1.

        Returns:
            ``(dim,)`` solution.
        """
        x = np.zeros(self.space.dim)
        for weight, corner in zip(np.asarray(weights, float), self.corners, strict=True):
            x += weight * corner
        clipped: np.ndarray = np.clip(x, self.space.lower_bounds, self.space.upper_bounds)
        return clipped.astype(self.space.dtype)


@checked
@dataclass(frozen=True)
class PlaneClimb:
    """Steps of Adam that learn a plane from one solution.

    Each step draws task weights, and descends the guide's losses with these weights at the plane's
    solution for them, on a batch of unlabeled items. ``x_0`` takes the gradient, and direction k
    its share ``w_k``. Coordinates move in the space's units.

    Args:
        steps: Steps, over which the rate falls linearly to 0.
        rate: Adam's first rate, in units of the space (see :attr:`~qdmerge.spaces.Space.units`).
        batch: Items of a step, over all tasks.
        concentration: Of the symmetric Dirichlet distribution that weights are drawn from: 1 draws
            them evenly, less draws more near the corners.
        seed: Decides weights and items of each step.
    """

    steps: Annotated[int, Field(ge=1)] = 240
    rate: Annotated[float, Field(gt=0)] = 0.1
    batch: Annotated[int, Field(ge=1)] = 24
    concentration: Annotated[float, Field(gt=0)] = 0.7
    seed: int = 0

    def __call__(self, guide: Guide, space: Space, x: np.ndarray) -> tuple[Plane, int]:
        """Return the plane after the climb from a ``(dim,)`` solution, and the gradient passes.

        Raises:
            EvaluationError: A loss or a coordinate is not finite, or memory is not enough.
        """
        import torch

        tasks, units = list(guide.sizes), torch.tensor(space.units)
        moved = torch.zeros(1 + len(tasks), space.dim, requires_grad=True)  # x_0, directions
        adam = torch.optim.Adam([moved], lr=self.rate)
        fall = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, self.steps)
        low, high = space.lower_bounds, space.upper_bounds
        for step in range(self.steps):
            weights = self._weights(len(tasks), step)
            change = units * (torch.tensor([1.0, *weights], dtype=torch.float32) @ moved)
            here = np.clip(x + change.detach().numpy(), low, high).astype(space.dtype)
            rows = draw_rows(guide.sizes, tasks, self.batch, self.seed, step)
            shares = dict(zip(tasks, weights.tolist(), strict=True))
            _, gradient = guide.gradient(here, rows, shares)
            adam.zero_grad()
            change.backward(torch.from_numpy(gradient))
            adam.step()
            fall.step()
            if not torch.isfinite(moved).all():
                raise EvaluationError(
                    f"step {step + 1} of a plane gave coordinates that are not finite; lower 'rate'"
                )
        corners = x + (units * (moved[:1] + moved[1:])).detach().numpy()
        return Plane(space, corners.astype(space.dtype)), self.steps

    def _weights(self, count: int, step: int) -> np.ndarray:
        # Orders of the items are drawn with [seed, 0..K - 1, turn].
        rng = np.random.default_rng([self.seed, count, step])
        return rng.dirichlet(np.full(count, self.concentration))


def spread_weights(count: int, samples: int, seed: int = 0, focus: float = 0.8) -> np.ndarray:
    """Return task weights that cover a plane: the middle, points near the corners, and draws.

    Args:
        count: Number of tasks, K.
        samples: How many; the first of these.
        seed: Decides the draws.
        focus: Weight of the own task near a corner; the others share the rest.

    Returns:
        ``(samples, K)``; rows sum to 1.
    """
    near = np.full((count, count), (1 - focus) / max(count - 1, 1))
    np.fill_diagonal(near, focus if count > 1 else 1)
    drawn = np.random.default_rng(seed).dirichlet(np.ones(count), max(samples - count - 1, 0))
    return np.concatenate([np.full((1, count), 1 / count), near, drawn])[:samples]
