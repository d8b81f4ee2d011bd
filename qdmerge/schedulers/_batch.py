"""What schedulers hand out, and what they look at in emitters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from qdmerge.errors import ConfigError, naming
from qdmerge.guide import Errand

if TYPE_CHECKING:
    from ribs.emitters import EmitterBase


@dataclass(frozen=True, eq=False)
class Batch:
    """Solutions that were asked for and wait for their scores.

    Attributes:
        id: Number of the batch, counted from 0.
        task: Active task; None for the seeds of a search.
        solutions: ``(n, dim)`` solutions.
        names: Names of the solutions, if they have any (seeds).
        parents: Per solution, ``(p, dim)`` parents; None where the emitter names none.
        errands: Per solution, what to ask of the guide before it is scored, or None; () for none.
    """

    id: int
    task: str | None
    solutions: np.ndarray
    names: tuple[str, ...] = ()
    parents: tuple[np.ndarray | None, ...] = ()
    errands: tuple[Errand | None, ...] = ()

    def __len__(self) -> int:
        return len(self.solutions)

    def __repr__(self) -> str:
        what = f"names={self.names}" if self.task is None else f"task={self.task!r}"
        return f"Batch(id={self.id}, {what}, solutions of shape {self.solutions.shape})"


@dataclass(frozen=True, eq=False)
class Out:
    """A batch that is out: how many solutions each emitter made ([] if none did), and whether
    their Jacobians were asked for. ``solutions`` is a copy, as they were asked for.
    """

    batch: Batch
    sizes: list[int]
    dqd: bool = False
    solutions: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "solutions", self.batch.solutions.copy())

    def check(self, told: Batch) -> None:
        """Raise ValueError if ``told`` is not this batch, with the solutions as asked."""
        own = self.batch
        same = (told.task, told.names) == (own.task, own.names)
        if not (same and np.array_equal(told.solutions, self.solutions)):
            raise ValueError(
                f"batch {own.id} was asked for with other solutions: tell it as ask() returned it, "
                "unchanged, to the search that it came from"
            )


def emitter_name(task: str, emitter: EmitterBase) -> str:
    """Return what messages call an emitter."""
    return f"emitter of task '{task}' ({type(emitter).__name__})"


def made_by(task: str, emitter: EmitterBase, ask: str, dim: int) -> np.ndarray:
    """Return the ``(n, dim)`` finite solutions that an emitter asks for.

    Raises:
        ConfigError: It fails, or asks for anything else.
    """
    name = emitter_name(task, emitter)
    with naming(name):
        made = np.asarray(getattr(emitter, ask)())
    if made.ndim != 2 or made.shape[1] != dim or made.dtype.kind != "f":
        raise ConfigError(
            f"{name}: {ask}() must return floats of shape (n, {dim}); got {made.dtype} of shape "
            f"{made.shape}"
        )
    if not np.isfinite(made).all():
        raise ConfigError(f"{name}: {ask}() returned NaN or infinity")
    return made


def follows_gradients(emitter: EmitterBase) -> bool:
    """Return whether an emitter asks for Jacobians: it overrides ``EmitterBase.ask_dqd``."""
    from ribs.emitters import EmitterBase

    return type(emitter).ask_dqd is not EmitterBase.ask_dqd


def learns(emitter: EmitterBase) -> bool:
    """Return whether an emitter learns from results, and must be told before the next ask.

    Emitters that do override ``EmitterBase.tell`` (the evolution strategies) or follow gradients;
    the others (merge, Gaussian, iso-line) can have any number of batches out.
    """
    from ribs.emitters import EmitterBase

    return type(emitter).tell is not EmitterBase.tell or follows_gradients(emitter)


_ONE_ARCHIVE = "schedules the emitters of one archive, and a search has one for each task; use "
UNFIT_SCHEDULERS: Mapping[str, str] = {
    "Scheduler": f"{_ONE_ARCHIVE}'cycle', which is the same for one task",
    "BanditScheduler": f"{_ONE_ARCHIVE}'bandit', which chooses among tasks",
    "BayesianOptimizationScheduler": f"{_ONE_ARCHIVE}'cycle' with emitter 'bayesian'",
}
"""pyribs' schedulers, to why each cannot be that of a search."""
