"""What experts say on unlabeled items, as a loss whose gradient a search can follow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal, Protocol

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from qdmerge.checkpoints._sources import Progress, silent
from qdmerge.errors import EvaluationError
from qdmerge.spaces._weights import WeightSpace

Loss = Callable[[str, np.ndarray], torch.Tensor]
"""The live module's mean loss on items of a task: the name, and ``(n,)`` numbers of the items."""

Objective = Literal["agreement", "entropy"]
"""What a step lowers: how far the model is from what the task's expert says; or how uncertain its
own predictions are, whatever they are (AdaMerging, arXiv 2310.02575)."""


class Guide(Protocol):
    """A backend's way to let a search see where to go: a loss of a solution, and its gradient.

    The loss of a task says how far a model is from what the task's expert says on unlabeled items.
    Items belong to no split that models are scored on; at most to validation.
    """

    @property
    def sizes(self) -> Mapping[str, int]:
        """Task name to the number of its unlabeled items, in the order of the tasks."""
        ...

    def key(self) -> str:
        """Return a hash of everything that decides the losses: items, experts, settings."""
        ...

    @property
    def objectives(self) -> Collection[Objective]:
        """Which losses it has; without this attribute, "agreement" alone."""
        ...

    def prepare(self, progress: Progress = silent) -> None:
        """Record what the experts say, unless that is known; it serves all solutions."""
        ...

    def gradient(
        self,
        x: np.ndarray,
        rows: Mapping[str, np.ndarray],
        shares: Mapping[str, float],
        objective: Objective = "agreement",
    ) -> tuple[dict[str, float], np.ndarray]:
        """Return the loss of each task, and the gradient of their sum weighted by ``shares``.

        Args:
            x: ``(dim,)`` solution.
            rows: Task name to ``(n,)`` numbers of the items to look at, from 0.
            shares: Task name to the weight of its loss, for the tasks of ``rows``.
            objective: Which loss; a guide that has the first one alone need not take it.

        Returns:
            Task name to loss, without the weight; and the ``(dim,)`` float32 gradient.

        Raises:
            EvaluationError: A loss is not finite, or memory is not enough.
        """
        ...


class ModuleGuide:
    """A :class:`Guide` of a live torch module, from a function that gives its loss.

    The module becomes the model of ``x``; one backward pass gives the weights' gradients, which are
    pulled back; see :meth:`WeightSpace.pullback`.

    Args:
        space: The space, which must be differentiable.
        module: The live module.
        loss: A task's name and ``(n,)`` int64 numbers of its items to the mean loss, a scalar that
            is differentiable with respect to the module's weights.
        sizes: Task name to the number of its unlabeled items.
        key: Hash of what decides the losses.
        entropy: Like ``loss``, the mean entropy of the live module's own predictions on items; None
            if it is not to be had.
    """

    def __init__(
        self,
        space: WeightSpace,
        module: torch.nn.Module,
        loss: Loss,
        sizes: Mapping[str, int],
        key: str = "",
        entropy: Loss | None = None,
    ) -> None:
        self.space = space
        self.module = module
        self._losses: dict[Objective, Loss] = {"agreement": loss}
        if entropy is not None:
            self._losses["entropy"] = entropy
        self._sizes = sizes
        self._key = key

    @property
    def sizes(self) -> Mapping[str, int]:
        """See :class:`Guide`."""
        return self._sizes

    def key(self) -> str:
        """See :class:`Guide`."""
        return self._key

    @property
    def objectives(self) -> Collection[Objective]:
        """See :class:`Guide`."""
        return tuple(self._losses)

    def prepare(self, progress: Progress = silent) -> None:
        """Do nothing: the losses are ready."""

    def express(self, x: np.ndarray) -> None:
        """Make the module the model of ``x``."""
        self.space.express(x, self.module)

    def gradient(
        self,
        x: np.ndarray,
        rows: Mapping[str, np.ndarray],
        shares: Mapping[str, float],
        objective: Objective = "agreement",
    ) -> tuple[dict[str, float], np.ndarray]:
        """See :class:`Guide`."""
        loss_of = self._losses[objective]
        self.express(x)
        losses: dict[str, torch.Tensor] = {}
        try:
            with torch.enable_grad(), self.space.pullback(x, self.module) as gradient:
                for task, chosen in rows.items():
                    losses[task] = loss_of(task, chosen)
                    if not torch.isfinite(losses[task]):
                        raise EvaluationError(
                            f"the guide's loss of task '{task}' is {float(losses[task])}; try a "
                            "lower rate, or 'dtype: float32'"
                        )
                # One backward pass, so that each weight's gradient is pulled back once.
                parts = [shares[task] * loss for task, loss in losses.items() if shares[task]]
                if parts:
                    torch.stack(parts).sum().backward()
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise EvaluationError(
                "not enough memory for a backward pass: set a smaller 'batch' where the guide is "
                "used, or 'guide.checkpointing: true' or 'dtype: bfloat16' in the backend"
            ) from error
        return {task: float(loss.detach()) for task, loss in losses.items()}, gradient.numpy()


@contextmanager
def computed_again(layers: Sequence[torch.nn.Module]) -> Iterator[None]:
    """Let layers keep their inputs only, and be computed again in the backward pass.

    For guides that save memory. transformers' own switch works in training mode alone, where there
    is dropout.

    Args:
        layers: The layers; () for none.
    """
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
