"""What the search baselines share as pyribs emitters."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from ribs.emitters import EmitterBase

from qdmerge.errors import ConfigError

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.emitters import EmitterSpec


class BaselineEmitter(EmitterBase):
    """A search that keeps its own state, beside an archive that only collects what it finds.

    Meant for :class:`~qdmerge.schedulers.FixedScheduler` with the first task active, so that the
    scores it is told are in the order of the tasks.

    Args:
        archive: Archive of the active task.
        spec: What the run provides: space, number of scores, seed.
    """

    def __init__(self, archive: ArchiveBase, spec: EmitterSpec) -> None:
        super().__init__(
            archive,
            solution_dim=spec.space.dim,
            bounds=None,
            lower_bounds=spec.space.lower_bounds,
            upper_bounds=spec.space.upper_bounds,
        )
        self._space = spec.space
        self._n_scores = spec.n_scores
        self._seed = spec.seed

    def _solutions(self, x: np.ndarray) -> np.ndarray:
        """``(n, dim)`` vectors as solutions of the space: clipped to its bounds, in its dtype."""
        return np.clip(x, self.lower_bounds, self.upper_bounds).astype(self._space.dtype)

    def _scores(self, objective: np.ndarray, measures: np.ndarray) -> np.ndarray:
        """``(n, K)`` scores on all tasks, the active one first."""
        return np.column_stack([objective, measures[:, : self._n_scores]])

    def _known(self) -> np.ndarray:
        """``(n, dim)`` what is known before any search: the average, then the experts.

        Without experts, the mean of all seeds, then these.
        """
        space = self._space
        names = space.experts or tuple(space.seeds)
        return np.stack([space.x0, *(space.seeds[name] for name in names)])


def need(library: str, method: str) -> None:
    """Checks that a library of the extra ``compare`` is there.

    Raises:
        ConfigError: It cannot be imported; the message tells how to install it.
    """
    try:
        import_module(library)
    except ImportError as error:
        raise ConfigError(f"{method} needs {library}: pip install 'qdmerge[compare]'") from error
