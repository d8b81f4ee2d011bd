"""Ask and tell over K archives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.archives import role_of
from qdmerge.backend import Evaluation
from qdmerge.guide import Errand

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase
    from ribs.emitters import EmitterBase


Items = Sequence[Mapping[str, np.ndarray] | None] | None
"""Per solution, task name to ``(n_items,)`` scores of single items, or None."""


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


def _any(errands: Sequence[Errand | None]) -> tuple[Errand | None, ...]:
    """Return errands, or () if there is none among them."""
    return tuple(errands) if any(errands) else ()


def learns(emitter: EmitterBase) -> bool:
    """Return whether an emitter learns from results, and must be told before the next ask.

    Emitters that do override ``EmitterBase.tell`` (the evolution strategies); the others (merge,
    Gaussian, iso-line) can have any number of batches out.
    """
    from ribs.emitters import EmitterBase

    return type(emitter).tell is not EmitterBase.tell


class TaskScheduler(ABC):
    """Alternates the roles of K archives; like ``ribs.schedulers.Scheduler`` for one of them.

    :meth:`ask` lets all emitters of one task, the active one, make solutions; :meth:`tell` offers
    every solution to every archive and tells the emitters that made them. Several batches may be
    out at once. Archive i takes the score on task i as objective, and the other tasks' scores
    followed by the backend's own measures as measures.

    Args:
        archives: Task name to archive; the order is the order of score columns.
        emitters: Task name to the emitters that work on its archive; of no task any, where only
            solutions from elsewhere are evaluated (:meth:`enqueue`).

    Raises:
        ValueError: Tasks of archives and emitters differ, one task has no emitter, or an emitter is
            listed twice.
    """

    def __init__(
        self,
        archives: Mapping[str, ArchiveBase],
        emitters: Mapping[str, Sequence[EmitterBase]],
    ) -> None:
        if list(archives) != list(emitters):
            raise ValueError(
                f"archives are of tasks {list(archives)}, but emitters of {list(emitters)}"
            )
        for task, listed in emitters.items():
            if not listed and any(emitters.values()):
                raise ValueError(f"task '{task}' has no emitter; give it at least one")
        every = [emitter for listed in emitters.values() for emitter in listed]
        if len({id(emitter) for emitter in every}) < len(every):
            raise ValueError("the same emitter is listed twice; make one for each place")
        self.archives = dict(archives)
        self.emitters = {task: list(listed) for task, listed in emitters.items()}
        self._out: dict[int, tuple[Batch, list[int]]] = {}
        nothing: dict[str, np.ndarray] = {"status": np.zeros(1, np.int32), "value": np.zeros(1)}
        self._last_info: dict[str, dict[str, np.ndarray]] = dict.fromkeys(self.archives, nothing)
        self._asked = 0
        self._queued: list[tuple[np.ndarray, tuple[Errand | None, ...]]] = []

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the order of score columns."""
        return list(self.archives)

    @property
    def out(self) -> list[int]:
        """Ids of the batches that were asked for and not told yet, oldest first."""
        return list(self._out)

    @property
    def ready(self) -> bool:
        """Whether :meth:`ask` can be called now."""
        return bool(self._queued or self._ready_tasks())

    def _ready_tasks(self) -> list[str]:
        waiting = {
            batch.task
            for batch, sizes in self._out.values()
            if sizes
            and batch.task is not None
            and any(learns(e) for e in self.emitters[batch.task])
        }
        candidates = (task for task in self._candidates() if self.emitters[task])
        return [task for task in candidates if task not in waiting]

    def _candidates(self) -> list[str]:
        """Return the tasks that may become active."""
        return self.tasks

    @abstractmethod
    def choose(self, ready: Sequence[str]) -> str:
        """Choose the next active task.

        Args:
            ready: Tasks whose emitters can be asked now; at least one.
        """

    def learn(self, task: str, improved: int, n: int) -> None:  # noqa: B027
        """Learn from a batch after it was told; the base class learns nothing.

        Args:
            task: Task that was active.
            improved: Number of solutions that entered the active archive.
            n: Number of solutions of the batch.
        """

    def ask(self) -> Batch:
        """Ask the next active task's emitters for solutions.

        Raises:
            RuntimeError: Every emitter waits for the results of a batch that is out.
        """
        if self._queued:
            return self._ask_queued()
        ready = self._ready_tasks()
        if not ready:
            raise RuntimeError(
                f"every emitter waits for results: tell a batch first (out: {self.out}), and look "
                "at `ready` before ask() when several batches are out at once"
            )
        task = self.choose(ready)
        parts: list[np.ndarray] = []
        parents: list[np.ndarray | None] = []
        errands: list[Errand | None] = []
        for emitter in self.emitters[task]:
            solutions = emitter.ask()
            made_from = getattr(emitter, "parents", None)
            asked = getattr(emitter, "errands", None)
            parts.append(solutions)
            parents += list(made_from) if made_from is not None else [None] * len(solutions)
            errands += list(asked) if asked is not None else [None] * len(solutions)
        batch = Batch(self._asked, task, np.concatenate(parts), (), tuple(parents), _any(errands))
        self._asked += 1
        self._out[batch.id] = (batch, [len(part) for part in parts])
        return batch

    def enqueue(self, solutions: np.ndarray, errands: Sequence[Errand | None] = ()) -> None:
        """Queue solutions from elsewhere, which the next :meth:`ask` returns.

        They are evaluated and told like any children, except that no emitter learns of them.

        Args:
            solutions: ``(n, dim)``, at least one.
            errands: Per solution, what to ask of the guide before it is scored; () for nothing.
        """
        self._queued.append((solutions, tuple(errands)))

    def _ask_queued(self) -> Batch:
        solutions, errands = self._queued.pop(0)
        task = self._candidates()[0]
        batch = Batch(self._asked, task, solutions, (), (None,) * len(solutions), _any(errands))
        self._asked += 1
        self._out[batch.id] = (batch, [])
        return batch

    def tell(
        self,
        batch: Batch,
        scores: np.ndarray,
        measures: np.ndarray | None = None,
        items: Items = None,
        solutions: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Tell the scores of a batch: every archive is offered every solution.

        Args:
            batch: A batch from :meth:`ask` that was not told yet.
            scores: ``(n, K)``; a row that is not finite failed, and enters no archive.
            measures: ``(n, M)`` own measures of the backend, if it has any.
            items: Per solution, task name to the scores of single items, or None where it failed;
                told to emitters that have an attribute ``uses_items``. None if there are none.
            solutions: ``(n, dim)``, what was scored, if a guide improved the batch's solutions.

        Returns:
            Task name to ``(n,)`` pyribs add status: 0 not added, 1 improved a cell, 2 new cell.

        Raises:
            ValueError: The batch is not out.
            EvaluationError: An array has a wrong shape.
        """
        if batch.id not in self._out:
            raise ValueError(
                f"batch {batch.id} is not out: it was told already, or never asked for here "
                f"(out: {self.out})"
            )
        asked, sizes = self._out[batch.id]
        if solutions is not None:
            asked = replace(asked, solutions=solutions)
        scores, measures, valid = self._checked(asked, scores, measures)
        assert asked.task is not None
        infos = {
            task: self._offer(column, asked.solutions, scores, measures, valid)
            for column, task in enumerate(self.tasks)
        }
        del self._out[batch.id]
        status = {task: np.asarray(info["status"]) for task, info in infos.items()}
        if sizes:
            self._tell_emitters(asked, sizes, scores, measures, valid, infos[asked.task], items)
            self.learn(asked.task, int((status[asked.task] > 0).sum()), len(asked))
        return status

    def offer(
        self, solutions: np.ndarray, scores: np.ndarray, measures: np.ndarray | None = None
    ) -> None:
        """Offer solutions from elsewhere (the experts) to every archive, but tell no emitter.

        Raises:
            EvaluationError: An array has a wrong shape.
        """
        batch = Batch(-1, None, solutions)
        scores, measures, valid = self._checked(batch, scores, measures)
        for column in range(len(self.tasks)):
            self._offer(column, solutions, scores, measures, valid)

    def _checked(
        self, batch: Batch, scores: np.ndarray, measures: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n, k = len(batch), len(self.tasks)
        own = next(iter(self.archives.values())).measure_dim - (k - 1)
        evaluation = Evaluation(scores, measures).checked(n, k, own)
        assert evaluation.measures is not None
        return evaluation.scores, evaluation.measures, evaluation.valid

    def _offer(
        self,
        column: int,
        solutions: np.ndarray,
        scores: np.ndarray,
        measures: np.ndarray,
        valid: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Add the valid rows to one archive; return pyribs' add info for all rows."""
        task = self.tasks[column]
        if valid.any():
            role = role_of(column, scores[valid], measures[valid])
            info = dict(self.archives[task].add(solution=solutions[valid], **role))
            # Not every archive says by how much it was improved (DNS), but rankers ask for it.
            info.setdefault("value", role["objective"])
            self._last_info[task] = info
        padded = {}
        for name, array in self._last_info[task].items():
            # Rankers sort by status, then value: a failure is not added and below all others.
            worst = 0 if name == "status" else array.min() - 1
            padded[name] = np.full(len(solutions), worst, array.dtype)
            if valid.any():
                padded[name][valid] = array
        return padded

    def _tell_emitters(
        self,
        batch: Batch,
        sizes: list[int],
        scores: np.ndarray,
        measures: np.ndarray,
        valid: np.ndarray,
        info: dict[str, np.ndarray],
        items: Items,
    ) -> None:
        assert batch.task is not None
        if self.archives[batch.task].empty:
            return  # All failed so far: there is nothing to learn, and no elite to restart from.
        role = role_of(self.tasks.index(batch.task), scores, measures)
        if not valid.all():
            # An evolution strategy ranks its whole batch: failures take the batch's worst values,
            # or, where all failed, those of the archive.
            known = role if valid.any() else self.archives[batch.task].data(list(role))
            rows = valid if valid.any() else slice(None)
            for name, array in role.items():
                array[~valid] = known[name][rows].min(axis=0)
        start = 0
        for emitter, size in zip(self.emitters[batch.task], sizes, strict=True):
            rows = slice(start, start + size)
            more: dict[str, Any] = {}
            if getattr(emitter, "uses_items", False):
                more["items"] = [None] * size if items is None else list(items[rows])
            emitter.tell(
                solution=batch.solutions[rows],
                **{name: array[rows] for name, array in role.items()},
                add_info={name: array[rows] for name, array in info.items()},
                **more,
            )
            start += size
