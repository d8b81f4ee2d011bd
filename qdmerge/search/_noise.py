"""Noisy scores: leading elites are evaluated again, and archives keep the means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qdmerge.archives import role_of
from qdmerge.backend import Evaluation, Task
from qdmerge.errors import UnsupportedError
from qdmerge.schedulers import Batch, TaskScheduler
from qdmerge.search._elites import elites_of

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase


class Noise:
    """What is known of models that were evaluated more than once.

    Args:
        tasks: The tasks.
        leading: Leading elites of an archive that are evaluated again in turn.
    """

    def __init__(self, tasks: Sequence[Task], leading: int) -> None:
        self._tasks = [task.name for task in tasks]
        self._leading = leading
        self._times: dict[bytes, int] = {}
        """Solution to its evaluations, where there were several."""
        self._sums: dict[bytes, np.ndarray] = {}
        """Solution to the sums of its K scores and M measures."""
        self._queued: list[bytes] = []
        self._asked: dict[int, bytes] = {}

    def check(self, archives: Mapping[str, ArchiveBase]) -> None:
        """Check that archives can take means in place of what they were given.

        Raises:
            UnsupportedError: They remember more than their elites.
        """
        for archive in archives.values():
            annealed = getattr(archive, "learning_rate", None) not in (None, 1.0)
            if annealed or hasattr(archive, "remap_frequency"):
                raise UnsupportedError(
                    f"the backend's scores are noisy, and {type(archive).__name__} remembers single"
                    " ones (a learning rate, or moving boundaries): use archive grid without "
                    "learning_rate, cvt, dns or proximity, or reevaluate=0"
                )

    def enqueue(self, scheduler: TaskScheduler, task: str) -> None:
        """Queue the elite, of the leading ones of a task, that was evaluated least."""
        elites = elites_of(scheduler.archives[task], self._tasks, task)
        leading = sorted(elites, key=lambda elite: -elite.scores[task])[: self._leading]
        if not leading:
            return
        chosen = min(leading, key=lambda elite: self._times.get(elite.x.tobytes(), 1))
        key = chosen.x.tobytes()
        if key not in self._times:
            self._times[key] = 1
            self._sums[key] = np.array([*chosen.scores.values(), *chosen.measures])
        self._queued.append(key)
        scheduler.enqueue(chosen.x[None])

    def note(self, batch: Batch) -> None:
        """Look at a batch that was asked for: is it one that was queued here?"""
        if self._queued and batch.solutions.tobytes() == self._queued[0]:
            self._asked[batch.id] = self._queued.pop(0)

    def asked(self, batch: Batch) -> bool:
        """Return whether a batch is of an elite that is evaluated again."""
        return batch.id in self._asked

    def tell(
        self, scheduler: TaskScheduler, batch: Batch, evaluation: Evaluation
    ) -> dict[str, np.ndarray]:
        """Put the mean of all evaluations of a model in place of what archives hold of it."""
        scheduler.recall(batch)
        key = self._asked.pop(batch.id)
        if evaluation.valid.all():
            self._times[key] += 1
            self._sums[key] += [*evaluation.scores[0], *np.asarray(evaluation.measures)[0]]
            mean = self._sums[key] / self._times[key]
            for column, archive in enumerate(scheduler.archives.values()):
                self._replace(archive, key, role_of(column, *self._split(mean)))
        return {task: np.zeros(1, np.int32) for task in self._tasks}

    def _split(self, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = len(self._tasks)
        return mean[None, :k], mean[None, k:]

    def _replace(self, archive: ArchiveBase, key: bytes, role: dict[str, np.ndarray]) -> None:
        data = archive.data(["solution", "objective", "measures"])
        rows = [row for row, x in enumerate(data["solution"]) if x.tobytes() == key]
        if rows:
            for name, value in role.items():
                data[name][rows] = value
            archive.clear()
            archive.add(**data)
