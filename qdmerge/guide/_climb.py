"""Climbs of solutions before they are scored, and Jacobians."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from pydantic import Field

from qdmerge.errors import EvaluationError
from qdmerge.options import checked

if TYPE_CHECKING:
    from qdmerge.spaces import Guide, Space

_KEPT = 4
"""Unfinished climbs that a process keeps, to continue them."""


@checked
@dataclass(frozen=True)
class Climb:
    """Steps of Adam that improve a solution before it is scored.

    Steps descend the guide's losses of all tasks, weighted by ``shares``, on batches of unlabeled
    items. Coordinates move in the space's units.

    Args:
        shares: Weight of each task's loss, in the order of the tasks; at least 0, not all 0.
        steps: Steps from the solution; 0 leaves it as it is.
        rate: Adam's first rate, in units of the space (see :attr:`~qdmerge.spaces.Space.units`).
        batch: Items of a step, over all tasks with a share.
        seed: Decides the items of each step.
        total: Steps over which the rate falls linearly to 0; None for ``steps``. A climb that is
            scored on its way has the same ``total`` at every stop.
        objective: What the steps lower: "agreement", how far the model is from what the experts
            say, or "entropy", how uncertain its own predictions are.
    """

    shares: tuple[float, ...]
    steps: Annotated[int, Field(ge=0)]
    rate: Annotated[float, Field(gt=0)]
    batch: Annotated[int, Field(ge=1)] = 24
    seed: int = 0
    total: Annotated[int, Field(ge=1)] | None = None
    objective: Literal["agreement", "entropy"] = "agreement"

    def __call__(self, guide: Guide, space: Space, x: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the ``(dim,)`` solution at the end, and the number of gradient passes.

        A climb from the same solution that went less far in this process is continued; the result
        is the same.

        Raises:
            EvaluationError: A loss or a coordinate is not finite, or memory is not enough.
        """
        kept = _under_way.setdefault(guide, {})
        loss = (self.shares, self.batch, self.seed, self.objective)
        key = (x.tobytes(), loss, self.rate, self.total or self.steps)
        adam = kept.pop(key, None)
        if adam is None or adam.taken > self.steps:
            adam = _Adam(self, space, x)
        passes = self.steps - adam.taken
        while adam.taken < self.steps:
            adam.step(guide)
        kept[key] = adam
        while len(kept) > _KEPT:
            del kept[next(iter(kept))]
        return adam.x, passes


class _Adam:
    """A climb under way."""

    def __init__(self, climb: Climb, space: Space, x: np.ndarray) -> None:
        import torch

        self.taken = 0
        self._climb, self._space, self._origin = climb, space, x
        self._units = space.units
        self._moved = torch.zeros(space.dim)
        self._adam = torch.optim.Adam([self._moved], lr=climb.rate)
        total = max(1, climb.total or climb.steps)
        self._fall = torch.optim.lr_scheduler.LinearLR(self._adam, 1.0, 0.0, total)

    @property
    def x(self) -> np.ndarray:
        moved = self._origin + self._units * self._moved.numpy()
        x: np.ndarray = np.clip(moved, self._space.lower_bounds, self._space.upper_bounds)
        return x.astype(self._space.dtype)

    def step(self, guide: Guide) -> None:
        import torch

        climb = self._climb
        sizes = guide.sizes
        shares = dict(zip(sizes, climb.shares, strict=True))
        shares = {task: share for task, share in shares.items() if share}
        rows = draw_rows(sizes, list(shares), climb.batch, climb.seed, self.taken)
        more = {} if climb.objective == "agreement" else {"objective": climb.objective}
        _, gradient = guide.gradient(self.x, rows, shares, **more)
        self._moved.grad = torch.from_numpy(self._units * gradient).float()
        self._adam.step()
        self._fall.step()
        self.taken += 1
        if not torch.isfinite(self._moved).all():
            raise EvaluationError(
                f"step {self.taken} of a climb gave coordinates that are not finite; lower 'rate'"
            )


_under_way: WeakKeyDictionary[Guide, dict[Any, _Adam]] = WeakKeyDictionary()


@checked
@dataclass(frozen=True)
class Slopes:
    """The gradients of a solution's scores, as the guide sees them, for a Jacobian.

    Args:
        batch: Items over all tasks.
        seed: Decides the items.
    """

    batch: Annotated[int, Field(ge=1)] = 96
    seed: int = 0

    def __call__(self, guide: Guide, x: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the Jacobian ``(K + M, dim)`` float32, and the gradient passes.

        Its rows are the gradients of the tasks' negated losses, then those of the backend's own M
        measures where the guide gives them (a method ``measure_gradients`` of ``x``).
        """
        tasks = list(guide.sizes)
        rows = draw_rows(guide.sizes, tasks, self.batch, self.seed, 0)
        found = [-guide.gradient(x, {task: rows[task]}, {task: 1.0})[1] for task in tasks]
        if more := getattr(guide, "measure_gradients", None):
            found += list(more(x))
        return np.stack(found).astype(np.float32), len(tasks)


def draw_rows(
    sizes: Mapping[str, int], tasks: list[str], batch: int, seed: int, step: int
) -> dict[str, np.ndarray]:
    """Return the items of a step: of every task as many, in rounds of a new order each.

    Args:
        sizes: Task name to the number of its items.
        tasks: The tasks that have items in the batch.
        batch: Items over all these tasks; each has at least one.
        seed: Decides the orders.
        step: Number of the step, from 0.

    Returns:
        Task name to ``(n,)`` int64.
    """
    count = max(1, batch // len(tasks))
    found = {}
    for task in tasks:
        places = np.arange(step * count, (step + 1) * count)
        turns, positions = np.divmod(places, sizes[task])
        number = list(sizes).index(task)
        orders = {
            turn: np.random.default_rng([seed, number, turn]).permutation(sizes[task])
            for turn in np.unique(turns).tolist()
        }
        found[task] = np.array(
            [orders[turn][at] for turn, at in zip(turns.tolist(), positions, strict=True)]
        )
    return found
