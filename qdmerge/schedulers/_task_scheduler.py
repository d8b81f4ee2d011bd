"""Ask and tell over K archives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.archives import role_of
from qdmerge.backend import Evaluation
from qdmerge.errors import ConfigError, EvaluationError, naming
from qdmerge.guide import Errand, Slopes
from qdmerge.schedulers._batch import (
    Batch,
    Out,
    emitter_name,
    follows_gradients,
    learns,
    made_by,
)

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase
    from ribs.emitters import EmitterBase


Items = Sequence[Mapping[str, np.ndarray] | None] | None
"""Per solution, task name to ``(n_items,)`` scores of single items, or None."""


def _any(errands: Sequence[Errand | None]) -> tuple[Errand | None, ...]:
    """Return errands, or () if there is none among them."""
    return tuple(errands) if any(errands) else ()


class TaskScheduler(ABC):
    """Alternates the roles of K archives; like ``ribs.schedulers.Scheduler`` for one of them.

    :meth:`ask` lets all emitters of one task, the active one, make solutions; :meth:`tell` offers
    every solution to every archive and tells the emitters that made them. Several batches may be
    out at once. Archive i takes the score on task i as objective, and the other tasks' scores
    followed by the backend's own measures as measures.

    Where emitters of a task follow gradients (pyribs' DQD emitters), its turn has two batches:
    first what their ``ask_dqd`` gives, with :class:`~qdmerge.guide.Slopes` as errands (an emitter
    may have an attribute ``slopes``, which says on how many items), then what all its emitters'
    ``ask`` gives. The first is told with the Jacobians.

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
        self._out: dict[int, Out] = {}
        nothing: dict[str, np.ndarray] = {"status": np.zeros(1, np.int32), "value": np.zeros(1)}
        self._last_info: dict[str, dict[str, np.ndarray]] = dict.fromkeys(self.archives, nothing)
        self._asked = 0
        self._begun: list[str] = []
        """Tasks whose Jacobians were told and whose turn goes on."""
        self._queued: list[tuple[np.ndarray, tuple[Errand | None, ...]]] = []

    def __repr__(self) -> str:
        sizes = ", ".join(f"{task}: {len(archive)}" for task, archive in self.archives.items())
        return f"{type(self).__name__}(elites {sizes}; asked {self._asked}, out {self.out})"

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
            out.batch.task
            for out in self._out.values()
            if out.sizes
            and out.batch.task is not None
            and any(learns(e) for e in self.emitters[out.batch.task])
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
            ConfigError: An emitter fails, or gives solutions of another shape.
        """
        if self._queued:
            return self._send(self._candidates()[0], *self._queued.pop(0))
        ready = self._ready_tasks()
        if not ready:
            raise RuntimeError(
                f"every emitter waits for results: tell a batch first (out: {self.out}), and look "
                "at `ready` before ask() when several batches are out at once"
            )
        for task in self._begun:
            if task in ready:
                self._begun.remove(task)
                return self._ask(task)
        task = self.choose(ready)
        if any(follows_gradients(emitter) for emitter in self.emitters[task]):
            return self._ask_dqd(task)
        return self._ask(task)

    def _ask_dqd(self, task: str) -> Batch:
        dim = self.archives[task].solution_dim
        parts = [made_by(task, emitter, "ask_dqd", dim) for emitter in self.emitters[task]]
        sizes = [len(part) for part in parts]
        if not sum(sizes):
            return self._ask(task)
        errands: list[Errand | None] = []
        for emitter, size in zip(self.emitters[task], sizes, strict=True):
            slopes = getattr(emitter, "slopes", Slopes())
            errands += [replace(slopes, seed=self._asked)] * size
        return self._send(task, np.concatenate(parts), errands, sizes=sizes, dqd=True)

    def _ask(self, task: str) -> Batch:
        dim = self.archives[task].solution_dim
        parts: list[np.ndarray] = []
        parents: list[np.ndarray | None] = []
        errands: list[Errand | None] = []
        for emitter in self.emitters[task]:
            solutions = made_by(task, emitter, "ask", dim)
            made_from = getattr(emitter, "parents", None)
            asked = getattr(emitter, "errands", None)
            parts.append(solutions)
            parents += list(made_from) if made_from is not None else [None] * len(solutions)
            errands += list(asked) if asked is not None else [None] * len(solutions)
        sizes = [len(part) for part in parts]
        if not sum(sizes):
            raise ConfigError(f"emitters of task '{task}' ask for no solutions; see batch_size")
        return self._send(task, np.concatenate(parts), errands, parents, sizes)

    def _send(
        self,
        task: str,
        solutions: np.ndarray,
        errands: Sequence[Errand | None],
        parents: Sequence[np.ndarray | None] = (),
        sizes: Sequence[int] = (),
        dqd: bool = False,
    ) -> Batch:
        made_from = tuple(parents) or (None,) * len(solutions)
        batch = Batch(self._asked, task, solutions, (), made_from, _any(errands))
        self._asked += 1
        self._out[batch.id] = Out(batch, list(sizes), dqd)
        return batch

    def enqueue(self, solutions: np.ndarray, errands: Sequence[Errand | None] = ()) -> None:
        """Queue solutions from elsewhere, which the next :meth:`ask` returns.

        They are evaluated and told like any children, except that no emitter learns of them.

        Args:
            solutions: ``(n, dim)``, at least one.
            errands: Per solution, what to ask of the guide before it is scored; () for nothing.
        """
        self._queued.append((solutions, tuple(errands)))

    def recall(self, batch: Batch) -> None:
        """Take a batch back without its scores: no archive is offered it, no emitter told.

        Raises:
            ValueError: The batch is not out, or has other solutions than were asked for.
        """
        self._check_out(batch)
        del self._out[batch.id]

    def _check_out(self, batch: Batch) -> Out:
        if batch.id not in self._out:
            raise ValueError(
                f"batch {batch.id} is not out: it was told already, or never asked for here "
                f"(out: {self.out})"
            )
        self._out[batch.id].check(batch)
        return self._out[batch.id]

    def tell(
        self,
        batch: Batch,
        scores: np.ndarray,
        measures: np.ndarray | None = None,
        items: Items = None,
        solutions: np.ndarray | None = None,
        jacobians: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Tell the scores of a batch: every archive is offered every solution.

        Args:
            batch: A batch from :meth:`ask` that was not told yet.
            scores: ``(n, K)``; a row that is not finite failed, and enters no archive.
            measures: ``(n, M)`` own measures of the backend, if it has any.
            items: Per solution, task name to the scores of single items, or None where it failed;
                told to emitters that have an attribute ``uses_items``. None if there are none.
            solutions: ``(n, dim)``, what was scored, if a guide improved the batch's solutions.
            jacobians: ``(n, K + M, dim)`` gradients of scores and own measures, of a batch that
                asked for them; a row that is not finite failed, and its emitter learns that
                nothing leads anywhere from there.

        Returns:
            Task name to ``(n,)`` pyribs add status: 0 not added, 1 improved a cell, 2 new cell.

        Raises:
            ValueError: The batch is not out, has other solutions than were asked for, or asked
                for Jacobians and there are none.
            EvaluationError: An array has a wrong shape.
        """
        out = self._check_out(batch)
        asked = replace(out.batch, solutions=out.solutions)
        if solutions is not None:
            asked = replace(asked, solutions=solutions)
        scores, measures, valid = self._checked(asked, scores, measures)
        if out.dqd:
            jacobians, valid = self._checked_jacobians(asked, jacobians, valid)
        assert asked.task is not None
        infos = {
            task: self._offer(column, asked.solutions, scores, measures, valid)
            for column, task in enumerate(self.tasks)
        }
        del self._out[batch.id]
        status = {task: np.asarray(info["status"]) for task, info in infos.items()}
        if out.dqd:
            self._begun.append(asked.task)
        if out.sizes:
            out = replace(out, batch=asked)
            info = infos[asked.task]
            self._tell_emitters(out, scores, measures, valid, info, items, jacobians)
        if out.sizes and not out.dqd:
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

    def _checked_jacobians(
        self, batch: Batch, jacobians: np.ndarray | None, valid: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a copy that is 0 where a row failed, and the rows that did not."""
        archive = next(iter(self.archives.values()))
        shape = (len(batch), archive.measure_dim + 1, batch.solutions.shape[1])
        if jacobians is None and valid.any():
            raise ValueError(
                f"batch {batch.id} is to be told with the Jacobians of its solutions: score it "
                "with CycleQD.evaluate(batch), or give Evaluation(jacobians=...)"
            )
        checked = np.zeros(shape) if jacobians is None else np.array(jacobians)
        if checked.shape != shape:
            raise EvaluationError(
                f"got jacobians of shape {checked.shape}; expected (models, tasks + measures, "
                f"coordinates) = {shape}"
            )
        valid = valid & np.isfinite(checked).all(axis=(1, 2))
        checked[~valid] = 0
        return checked, valid

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
            archive = self.archives[task]
            with naming(f"archive of task '{task}' ({type(archive).__name__})"):
                info = dict(archive.add(solution=solutions[valid], **role))
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
        out: Out,
        scores: np.ndarray,
        measures: np.ndarray,
        valid: np.ndarray,
        info: dict[str, np.ndarray],
        items: Items,
        jacobians: np.ndarray | None,
    ) -> None:
        task = out.batch.task
        assert task is not None
        archive, column = self.archives[task], self.tasks.index(task)
        if archive.empty and not out.dqd:
            return  # All failed so far: there is nothing to learn, and no elite to restart from.
        role = role_of(column, scores, measures)
        if not valid.all():
            # An evolution strategy ranks its whole batch: failures take the batch's worst values,
            # or, where all failed, those of the archive.
            known = role if valid.any() else archive.data(list(role))
            rows = valid if valid.any() else slice(None)
            for name, array in role.items():
                array[~valid] = 0 if archive.empty else known[name][rows].min(axis=0)
        start = 0
        for emitter, size in zip(self.emitters[task], out.sizes, strict=True):
            rows = slice(start, start + size)
            told: dict[str, Any] = {
                "solution": out.batch.solutions[rows],
                **{name: array[rows] for name, array in role.items()},
                "add_info": {name: array[rows] for name, array in info.items()},
            }
            start += size
            if out.dqd:
                assert jacobians is not None
                order = [column, *(row for row in range(jacobians.shape[1]) if row != column)]
                with naming(emitter_name(task, emitter)):
                    emitter.tell_dqd(**told, jacobian=jacobians[rows][:, order])
                continue
            if getattr(emitter, "uses_items", False):
                told["items"] = [None] * size if items is None else list(items[rows])
            with naming(emitter_name(task, emitter)):
                emitter.tell(**told)
