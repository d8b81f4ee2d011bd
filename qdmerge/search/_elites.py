"""Elites of a search, and the statistics of its archives."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qdmerge.errors import Hint

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.backend import Evaluation, Task

Stats = dict[str, dict[str, float | int | None]]
"""Task name to elites, coverage, QD score and best objective of its archive."""


@dataclass(frozen=True, eq=False)
class Elite:
    """A model of an archive.

    Attributes:
        x: ``(dim,)`` solution.
        scores: Task name to score on the validation split.
        measures: ``(M,)`` the backend's own measures.
    """

    x: np.ndarray
    scores: dict[str, float]
    measures: np.ndarray

    def __repr__(self) -> str:
        scores = ", ".join(f"{task}: {score:.4g}" for task, score in self.scores.items())
        measures = f", measures {self.measures.tolist()}" if len(self.measures) else ""
        return f"Elite({scores}{measures}; x of {len(self.x)} coordinates)"


def streams(seed: int) -> list[np.random.SeedSequence]:
    """Return the sources of the seeds of archives, emitters and scheduler."""
    return np.random.SeedSequence(seed).spawn(3)


def archive_seeds(seed: int, n_tasks: int) -> list[int]:
    """Return the archives' own seeds, which decide the cells of a tessellation."""
    return [int(state) for state in streams(seed)[0].generate_state(n_tasks)]


def first_elites(experts: Sequence[str], seeds: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the seeds that enter the archives: the experts, if there are any.

    The base does not, as in the paper.
    """
    return tuple(experts) or tuple(seeds)


def elites_of(archive: ArchiveBase, tasks: Sequence[str], task: str) -> list[Elite]:
    """Return all elites of a task's archive, in the archive's order."""
    data = archive.data(["solution", "objective", "measures"])
    k = len(tasks) - 1
    # The task's own column goes back to its place among the others.
    scores = np.insert(data["measures"][:, :k], tasks.index(task), data["objective"], axis=1)
    return [
        Elite(x, dict(zip(tasks, row.tolist(), strict=True)), measures[k:])
        for x, row, measures in zip(data["solution"], scores, data["measures"], strict=True)
    ]


def scaled(
    scores: Mapping[str, float], tasks: Sequence[Task], seed_scores: Mapping[str, np.ndarray]
) -> list[float]:
    """Return scores by task name, scaled to (0, 1): from the range of each task, or where that is
    not finite, from the lowest and highest score of a seed.
    """
    columns = {task.name: column for column, task in enumerate(tasks)}
    found = []
    for task, score in scores.items():
        low, high = tasks[columns[task]].range
        if not np.isfinite([low, high]).all():
            seen = [row[columns[task]] for row in seed_scores.values()]
            low, high = min(seen), max(seen)
        found.append(float((score - low) / ((high - low) or 1.0)))
    return found


class Leaders:
    """The best model of each task, which an archive may drop, among all that were told.

    Args:
        tasks: The tasks.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self.best: dict[str, Elite] = {}
        """Task name to the model with the best score on it."""
        self._beyond: set[str] = set()

    def start(self, archives: Mapping[str, ArchiveBase]) -> None:
        """Begin with the elites that archives hold already."""
        names = [task.name for task in self._tasks]
        for task, archive in archives.items():
            for elite in elites_of(archive, names, task):
                self._offer(task, elite)

    def note(self, solutions: np.ndarray, evaluation: Evaluation) -> None:
        """Look at ``(n, dim)`` solutions that were scored; tell once of a score beyond a range."""
        valid = np.flatnonzero(evaluation.valid)
        if not len(valid):
            return
        names = [task.name for task in self._tasks]
        for column, task in enumerate(self._tasks):
            scores = evaluation.scores[valid, column]
            row = valid[np.argmax(scores)]
            elite = Elite(
                solutions[row].copy(),
                dict(zip(names, evaluation.scores[row].tolist(), strict=True)),
                np.asarray(evaluation.measures)[row],
            )
            self._offer(task.name, elite)
            self._check_range(task, scores)

    def _offer(self, task: str, elite: Elite) -> None:
        if task not in self.best or elite.scores[task] > self.best[task].scores[task]:
            self.best[task] = elite

    def _check_range(self, task: Task, scores: np.ndarray) -> None:
        low, high = task.range
        slack = 1e-9 * max([1.0, *(abs(end) for end in task.range if np.isfinite(end))])
        outside = scores[(scores < low - slack) | (scores > high + slack)]
        if len(outside) and task.name not in self._beyond:
            self._beyond.add(task.name)
            warnings.warn(
                f"a score on task '{task.name}' is {outside[0]:.6g}, beyond its range ({low:g}, "
                f"{high:g}): set Task(range=...) to what the metric can be, since axes, criteria "
                "and figures go by it",
                Hint,
                stacklevel=4,
            )
