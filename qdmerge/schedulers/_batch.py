"""What schedulers hand out, and what they look at in emitters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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


@dataclass(frozen=True, eq=False)
class Out:
    """A batch that is out: how many solutions each emitter made ([] if none did), and whether
    their Jacobians were asked for.
    """

    batch: Batch
    sizes: list[int]
    dqd: bool = False


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
