"""A trial of a search's parts, before anything is evaluated, on archives that are thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.archives import ArchiveSpec
from qdmerge.backend import GenomeBackend
from qdmerge.guide import Slopes, check_slopes, guide_of
from qdmerge.schedulers import TaskScheduler, follows_gradients

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase


def stand_in(spec: ArchiveSpec) -> ArchiveBase:
    """Make what stands for an archive of the user's own, which is made once, from real scores.

    It gives everything that pyribs' rankers ask of archives.
    """
    from ribs.archives import GridArchive

    class StandIn(GridArchive):
        def add(self, solution: Any, objective: Any, measures: Any, **fields: Any) -> Any:
            info = super().add(solution, objective, measures, **fields)
            return dict.fromkeys(("novelty", "density", "local_competition"), objective) | info

    return StandIn(dims=[2] * len(spec.axes), ranges=spec.ranges, **spec.storage)


def made_up_scores(n_tasks: int) -> np.ndarray:
    """Return ``(2, K)`` scores to size archives of a trial from."""
    return np.tile([[0.0], [1.0]], (1, n_tasks))


def try_parts(scheduler: TaskScheduler, backend: GenomeBackend) -> bool:
    """Let a scheduler have one turn with made-up scores.

    Args:
        scheduler: The scheduler, of archives that nobody else holds.
        backend: The backend, which is not asked to evaluate.

    Returns:
        Whether emitters ask for a guide.

    Raises:
        QDMergeError: A part fails, or does not fit another one.
    """
    guided = False
    for emitter in scheduler.emitters[scheduler.tasks[0]]:
        if follows_gradients(emitter):
            guided = True
            check_slopes(backend)
    least = [getattr(archive, "threshold_min", 0.0) for archive in scheduler.archives.values()]
    score = max([1.0, *(float(one) + 1 for one in least)])
    seeds = np.stack(list(backend.space.seeds.values()))
    scheduler.offer(seeds, *_made_up(backend, np.full(len(seeds), score)))
    while scheduler.ready:
        batch = scheduler.ask()
        slopes = any(isinstance(errand, Slopes) for errand in batch.errands)
        guided |= bool(batch.errands)
        scores, measures = _made_up(backend, score - np.linspace(0, 0.1, len(batch)))
        jacobians = None
        if slopes:
            rows = scores.shape[1] + measures.shape[1]
            jacobians = np.full((len(batch), rows, backend.space.dim), 1e-3)
        scheduler.tell(batch, scores, measures, jacobians=jacobians)
        if not slopes:
            break
    if guided:
        guide_of(backend)
    return guided


def _made_up(backend: GenomeBackend, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(n, K)`` scores that are alike on all tasks, and ``(n, M)`` measures between."""
    middle = np.array([sum(measure.range) / 2 for measure in backend.measures])
    return np.tile(scores[:, None], len(backend.tasks)), np.tile(middle, (len(scores), 1))
