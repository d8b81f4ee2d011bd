"""CycleQD: the front door."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from qdmerge.archives import ArchiveFactory, AxisSizing, check_axes, grid
from qdmerge.backend import Evaluation, GenomeBackend, Task
from qdmerge.emitters import EmitterFactory, paper_emitter
from qdmerge.errors import ConfigError, EvaluationError, kind_of
from qdmerge.guide import Slopes, Start, evaluate, joined
from qdmerge.operators import softmax_aggregate
from qdmerge.schedulers import Batch, CycleScheduler, TaskScheduler
from qdmerge.search._arguments import (
    Named,
    SchedulerFactory,
    archive_factory,
    check_backend,
    emitter_factories,
    scheduler_factory,
)
from qdmerge.search._elites import Elite, Leaders, elites_of, first_elites, scaled
from qdmerge.search._noise import Noise
from qdmerge.search._parts import SearchParts
from qdmerge.search._progress import progress_bar

if TYPE_CHECKING:
    import pandas as pd
    from ribs.archives import ArchiveBase

    from qdmerge.spaces import Space


class CycleQD:
    """Quality diversity with rotating roles, over the models of a backend (arXiv 2410.14735).

    The first batch from :meth:`ask` holds the seeds: the base and the experts. Their scores size
    the archives, and the experts become the first elites. Every later batch holds children::

        search = CycleQD(backend, seed=7)
        for _ in range(151):
            batch = search.ask()
            search.tell(batch, search.evaluate(batch))
        search.aggregate()          # x of one model with all skills
        search.best("coding").x     # x of the best model of one task's archive

    Args:
        backend: The domain.
        archive: Makes one pyribs archive from its spec: a name (``"cvt"``), a name with options
            (``{"name": "cvt", "centroids": 100}``), or a function, which is called once for each
            task; a 15-bin grid if not given. Where an archive holds elites already, the search
            goes on from them.
        emitters: Each makes one pyribs emitter for every task's archive: names or functions; ()
            for what the search starts from alone.
        scheduler: Makes the scheduler from archives and emitters: a name, a class of
            :mod:`qdmerge.schedulers`, or ``functools.partial`` of one. Where it has a parameter
            ``seed``, it gets one.
        axes: How the axes of the archives are sized.
        start: What is evaluated right after the seeds, such as merges without search: a generator
            function of the backend's space and tasks, a ``qdmerge.guide.Start``; None for
            nothing.
        reevaluate: Where the backend is ``noisy``, how many leading elites of an archive are
            evaluated again in turn: after every batch of children the one of them that was
            evaluated least. Archives keep the means. 0 for none.
        seed: Decides everything random in the search.

    Raises:
        ConfigError: An argument is of a wrong kind, the archives would have no axis, a task names
            an unknown expert, or a part fails in a trial with made-up scores. (Archives of your
            own functions join the trial only where their axes do not depend on scores.)
        UnsupportedError: A part cannot work with another one, or needs a guide, and the backend
            has none.
    """

    def __init__(
        self,
        backend: GenomeBackend,
        *,
        archive: ArchiveFactory | Named = grid,
        emitters: Sequence[EmitterFactory | Named] | EmitterFactory | Named = (paper_emitter,),
        scheduler: SchedulerFactory | Named = CycleScheduler,
        axes: AxisSizing | None = None,
        start: Callable[[Space, Sequence[Task]], Start] | None = None,
        reevaluate: int = 3,
        seed: int = 0,
    ) -> None:
        check_backend(backend)
        self.backend = backend
        self.seed = seed
        self.seed_scores: dict[str, np.ndarray] = {}
        """Seed name to ``(K,)`` validation scores; empty until the seeds were told."""
        if not isinstance(axes, AxisSizing | None):
            raise ConfigError(f"axes must be a qdmerge.AxisSizing; got {kind_of(axes)}")
        self._parts = SearchParts(
            backend,
            archive_factory(archive),
            emitter_factories(emitters),
            scheduler_factory(scheduler),
            axes or AxisSizing(),
            seed,
        )
        check_axes(backend.tasks, backend.measures)
        if not (start is None or callable(start)):
            raise ConfigError(f"start must be a generator function; got {kind_of(start)}")
        self._start = None if start is None else start(backend.space, backend.tasks)
        self._started: int | None = None
        self._leaders = Leaders(backend.tasks)
        self._scheduler: TaskScheduler | None = None
        self._seeds: Batch | None = None
        self._noise: Noise | None = None
        if getattr(backend, "noisy", False) and reevaluate:
            self._noise = Noise(backend.tasks, reevaluate)
        self.guided = self._parts.try_out(self._noise)
        """Whether emitters ask for a guide."""

    def __repr__(self) -> str:
        state = "seeds not told" if self._scheduler is None else repr(self._scheduler)
        return f"CycleQD({type(self.backend).__name__}; {self._parts}; {state})"

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the order of score columns."""
        return [task.name for task in self.backend.tasks]

    @property
    def scheduler(self) -> TaskScheduler:
        """The scheduler.

        Raises:
            RuntimeError: The seeds were not told yet, so the archives do not exist.
        """
        if self._scheduler is None:
            raise RuntimeError(
                "the archives are sized from the seeds' scores: ask() for the seeds and tell() "
                "their scores first"
            )
        return self._scheduler

    @property
    def archives(self) -> dict[str, ArchiveBase]:
        """Task name to its pyribs archive; see :attr:`scheduler` for when it exists."""
        return self.scheduler.archives

    @property
    def ready(self) -> bool:
        """Whether :meth:`ask` can be called now."""
        if self._seeds is None:
            return True
        return self._scheduler is not None and self._started is None and self.scheduler.ready

    def ask(self) -> Batch:
        """Return the seeds first, then children of the active task's archive.

        Raises:
            RuntimeError: The seeds, or the batches of every emitter, were not told yet.
        """
        if self._seeds is None:
            seeds = self.backend.space.seeds
            self._seeds = Batch(-1, None, np.stack(list(seeds.values())), names=tuple(seeds))
            return replace(self._seeds, solutions=self._seeds.solutions.copy())
        if self._started is not None:
            raise RuntimeError(
                f"batch {self._started} is one the search starts from: tell it first, and look at "
                "`ready` before ask() when several batches are out at once"
            )
        batch = self.scheduler.ask()
        if self._noise is not None:
            self._noise.note(batch)
        if self._start is not None:
            self._started = batch.id
        return batch

    def evaluate(self, batch: Batch) -> Evaluation:
        """Score a batch on validation, one model after the other, after its errands.

        Raises:
            EvaluationError: The guide's loss of a solution is not finite.
        """
        errands = batch.errands or (None,) * len(batch)
        found = [
            evaluate(self.backend, x, "validation", errand)
            for x, errand in zip(batch.solutions, errands, strict=True)
        ]
        return joined(batch.solutions, found, len(self.tasks), len(self.backend.measures))

    def run(
        self,
        evaluations: int,
        *,
        progress: bool = False,
        callback: Callable[[CycleQD], object] | None = None,
    ) -> Self:
        """Ask, evaluate and tell, the seeds first where they were not told yet.

        Args:
            evaluations: Children to evaluate in this call; the last batch is never cut.
            progress: Whether to show a bar on stderr.
            callback: Called with the search after every batch that was told; returns True to end.

        Returns:
            This search.

        Raises:
            ConfigError: ``evaluations`` is no positive whole number.
        """
        if not isinstance(evaluations, int) or evaluations < 1:
            raise ConfigError(f"evaluations must be a positive whole number; got {evaluations!r}")
        done = 0
        with progress_bar(evaluations if progress else None) as show:
            while done < evaluations:
                batch = self.ask()
                self.tell(batch, self.evaluate(batch))
                done += 0 if batch.task is None else len(batch)
                best = {task: self.best(task).scores[task] for task in self.tasks}
                show(done, best)
                if callback is not None and callback(self) is True:
                    break
        return self

    def tell(self, batch: Batch, evaluation: Evaluation) -> dict[str, np.ndarray]:
        """Take the validation scores of a batch.

        Args:
            batch: A batch from :meth:`ask`, not told yet.
            evaluation: Its scores; a row that is not finite counts as failed.

        Returns:
            Task name to ``(n,)`` pyribs add status (0 not added, 1 improved, 2 new); empty for
            the seeds.

        Raises:
            EvaluationError: Arrays of a wrong shape, or a seed that could not be evaluated.
            ConfigError: The archives cannot be built, or an emitter fails.
            ValueError: The batch was not asked for, was told already, or has other solutions than
                were asked for.
        """
        backend = self.backend
        if not isinstance(batch, Batch):
            raise ValueError(f"tell() takes the batch that ask() returned; got {kind_of(batch)}")
        if not isinstance(evaluation, Evaluation):
            raise EvaluationError(
                f"tell() takes a qdmerge.Evaluation of the batch; got {kind_of(evaluation)}"
            )
        evaluation = evaluation.checked(len(batch), len(backend.tasks), len(backend.measures))
        if batch.task is None:
            self._tell_seeds(batch, evaluation)
            return {}
        climbs = [one for one in batch.errands if one and not isinstance(one, Slopes)]
        if climbs and evaluation.solutions is None:
            raise ValueError(
                f"batch {batch.id} was to be improved by the guide before it was scored: score it "
                "with CycleQD.evaluate(batch), or give Evaluation(solutions=...)"
            )
        if self._noise is not None and self._noise.asked(batch):
            return self._noise.tell(self.scheduler, batch, evaluation)
        status = self.scheduler.tell(
            batch,
            evaluation.scores,
            evaluation.measures,
            evaluation.items,
            evaluation.solutions,
            evaluation.jacobians,
        )
        scored = batch.solutions if evaluation.solutions is None else evaluation.solutions
        self._leaders.note(scored, evaluation)
        if batch.id == self._started:
            self._started = None
            self._go_on(replace(evaluation, solutions=scored))
        if self._noise is not None and self._start is None:
            self._noise.enqueue(self.scheduler, batch.task)
        return status

    def _go_on(self, told: Evaluation | None) -> None:
        """Queue what the search starts from next, given what was scored last."""
        if self._start is None:
            return
        try:
            step = next(self._start) if told is None else self._start.send(told)
            self.scheduler.enqueue(*step)
        except StopIteration:
            self._start = None

    def _tell_seeds(self, batch: Batch, evaluation: Evaluation) -> None:
        if self._scheduler is not None:
            raise ValueError("the seeds were told already")
        if self._seeds is None:
            raise ValueError("the seeds were not asked for yet")
        same = batch.names == self._seeds.names
        if not (same and np.array_equal(batch.solutions, self._seeds.solutions)):
            raise ValueError(
                "these are not the seeds of this search: tell them as ask() returned them, "
                "unchanged, to the search that they came from"
            )
        failed = [name for name, ok in zip(batch.names, evaluation.valid, strict=True) if not ok]
        if failed:
            raise EvaluationError(
                f"{', '.join(failed)} could not be evaluated, and the archives are sized from the "
                "scores of base and experts; evaluate them alone to find the cause"
            )
        experts = first_elites(self.backend.space.experts, batch.names)
        rows = [batch.names.index(name) for name in experts]
        first = Evaluation(evaluation.scores[rows], np.asarray(evaluation.measures)[rows])
        scheduler = self._parts.scheduler(self._parts.archives(first.scores))
        self._leaders.start(scheduler.archives)
        scheduler.offer(batch.solutions[rows], first.scores, first.measures)
        self._scheduler = scheduler
        self.seed_scores = dict(zip(batch.names, evaluation.scores, strict=True))
        self._leaders.note(batch.solutions[rows], first)
        self._go_on(None)

    def elites(self, task: str) -> list[Elite]:
        """Return all elites of a task's archive, in the archive's order.

        Where the archive dropped the best model found on the task, or never took it (as with a
        learning rate or a least threshold), that one comes last.

        Raises:
            KeyError: Unknown task.
        """
        held = elites_of(self.archives[task], self.tasks, task)
        best = self._leaders.best[task]
        if self._noise is None and all(elite.scores[task] < best.scores[task] for elite in held):
            held.append(best)
        return held

    def elites_frame(self) -> pd.DataFrame:
        """Return the elites of all archives as a table.

        Returns:
            A row per elite: ``archive`` (its task), a column for the score on each task and for
            each of the backend's own measures, and ``x`` (``(dim,)`` solutions).
        """
        import pandas as pd

        own = [measure.name for measure in self.backend.measures]
        rows = [
            [task, *elite.scores.values(), *elite.measures, elite.x]
            for task in self.tasks
            for elite in self.elites(task)
        ]
        return pd.DataFrame(rows, columns=["archive", *self.tasks, *own, "x"])

    def best(self, task: str, by: Literal["quality", "mean"] = "quality") -> Elite:
        """Return the best elite of a task's archive.

        Args:
            task: Name of the task.
            by: "quality", the score on the task itself, or "mean", the mean over all tasks, scaled
                as :meth:`aggregate` says.

        Raises:
            KeyError: Unknown task.
            ValueError: Unknown ``by``.
        """
        keys: dict[str, Callable[[Elite], float]] = {
            "quality": lambda elite: elite.scores[task],
            "mean": lambda elite: float(np.mean(self._normal(elite.scores))),
        }
        if by not in keys:
            raise ValueError(f"by must be 'quality' or 'mean'; got {by!r}")
        return max(self.elites(task), key=keys[by])

    def _normal(self, scores: Mapping[str, float]) -> list[float]:
        return scaled(scores, self.backend.tasks, self.seed_scores)

    def aggregate(
        self, elite: Literal["quality", "mean"] = "quality", scale: float = 1.0
    ) -> np.ndarray:
        """Merge one elite of each archive; see :func:`qdmerge.operators.softmax_aggregate`.

        Where tasks have other ranges than (0, 1), scores are scaled to it: from the task's range,
        or where that is not finite, from the lowest and highest score of a seed.

        Args:
            elite: Which elite of each archive: the best by "quality", as in the paper, or by
                "mean" over the tasks.
            scale: Factor on the merged task vector; 1 in the paper.

        Returns:
            ``(dim,)`` solution, clipped to the bounds of the space.
        """
        chosen = {task: self.best(task, by=elite) for task in self.tasks}
        x = softmax_aggregate(
            np.stack([best.x for best in chosen.values()]),
            np.array([self._normal({task: one.scores[task]})[0] for task, one in chosen.items()]),
            scale,
        )
        return np.clip(x, self.backend.space.lower_bounds, self.backend.space.upper_bounds)
