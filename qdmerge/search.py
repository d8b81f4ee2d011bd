"""CycleQD, the search: ask, tell, best, aggregate."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qdmerge.archives import ArchiveFactory, AxisSizing, build_archives, check_axes, grid
from qdmerge.backend import Evaluation, GenomeBackend, Task
from qdmerge.emitters import EmitterFactory, build_emitters, paper_emitter
from qdmerge.errors import EvaluationError
from qdmerge.guide import Errand, Slopes, check_slopes, evaluate, guide_of, joined
from qdmerge.operators import softmax_aggregate
from qdmerge.schedulers import Batch, CycleScheduler, TaskScheduler, follows_gradients

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase
    from ribs.emitters import EmitterBase

    from qdmerge.spaces import Space

SchedulerFactory = Callable[
    [Mapping[str, "ArchiveBase"], Mapping[str, Sequence["EmitterBase"]]], TaskScheduler
]


Start = Generator[tuple[np.ndarray, Sequence[Errand | None]], Evaluation, None]
"""What a search starts from, step by step.

It yields ``(n, dim)`` solutions with their errands, () for none, and receives their evaluation,
whose ``solutions`` are those that were scored; rows that are not finite failed.
"""

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


def _streams(seed: int) -> list[np.random.SeedSequence]:
    """Return the sources of the archives' and of the emitters' seeds."""
    return np.random.SeedSequence(seed).spawn(2)


def archive_seeds(seed: int, n_tasks: int) -> list[int]:
    """Return the archives' own seeds, which decide the cells of a tessellation."""
    return [int(state) for state in _streams(seed)[0].generate_state(n_tasks)]


def first_elites(experts: Sequence[str], seeds: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the seeds that enter the archives: the experts, if there are any.

    The base does not, as in the paper.
    """
    return tuple(experts) or tuple(seeds)


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
        archive: Makes one pyribs archive from its spec; a 15-bin grid if not given.
        emitters: Each makes one pyribs emitter for every task's archive; () for what the search
            starts from alone.
        scheduler: Makes the scheduler from archives and emitters, for instance a class of
            :mod:`qdmerge.schedulers`, or ``functools.partial`` of one.
        axes: How the axes of the archives are sized.
        start: What is evaluated right after the seeds, such as merges without search: a generator
            function of the backend's space and tasks, see :data:`Start`; None for nothing.
        seed: Decides everything random in the search.

    Raises:
        ConfigError: The archives would have no axis, or a task names an unknown expert.
        UnsupportedError: A part needs a guide, and the backend has none.
    """

    def __init__(
        self,
        backend: GenomeBackend,
        *,
        archive: ArchiveFactory = grid,
        emitters: Sequence[EmitterFactory] = (paper_emitter,),
        scheduler: SchedulerFactory = CycleScheduler,
        axes: AxisSizing | None = None,
        start: Callable[[Space, Sequence[Task]], Start] | None = None,
        seed: int = 0,
    ) -> None:
        self.backend = backend
        self.seed = seed
        self.seed_scores: dict[str, np.ndarray] = {}
        """Seed name to ``(K,)`` validation scores; empty until the seeds were told."""
        self._archive_factory = archive
        self._emitter_factories = tuple(emitters)
        self._scheduler_factory = scheduler
        self._axes = axes or AxisSizing()
        self._start = None if start is None else start(backend.space, backend.tasks)
        self._started: int | None = None
        self.guided = False
        """Whether emitters ask for a guide."""
        self._scheduler: TaskScheduler | None = None
        self._seeds_asked = False
        check_axes(backend.tasks, backend.measures)
        self._check_emitters()

    def _check_emitters(self) -> None:
        """Ask the emitters once on archives of made-up scores, before anything is evaluated, so
        that a part that does not fit another one raises here.
        """
        k, measures = len(self.tasks), self.backend.measures
        scheduler = self._build(np.tile([[0.0], [1.0]], (1, k)))
        seeds = np.stack(list(self.backend.space.seeds.values()))
        middle = np.array([[sum(measure.range) / 2 for measure in measures]] * len(seeds))
        scheduler.offer(seeds, np.full((len(seeds), k), 0.5), middle.reshape(len(seeds), -1))
        for emitter in scheduler.emitters[self.tasks[0]]:
            if follows_gradients(emitter):
                self.guided = True
                check_slopes(self.backend)
                emitter.ask_dqd()
                continue
            emitter.ask()
            self.guided |= any(getattr(emitter, "errands", None) or ())
        if self.guided:
            guide_of(self.backend)

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
        if not self._seeds_asked:
            return True
        return self._scheduler is not None and self._started is None and self.scheduler.ready

    def ask(self) -> Batch:
        """Return the seeds first, then children of the active task's archive.

        Raises:
            RuntimeError: The seeds, or the batches of every emitter, were not told yet.
        """
        if not self._seeds_asked:
            self._seeds_asked = True
            seeds = self.backend.space.seeds
            return Batch(-1, None, np.stack(list(seeds.values())), names=tuple(seeds))
        if self._started is not None:
            raise RuntimeError(
                f"batch {self._started} is one the search starts from: tell it first, and look at "
                "`ready` before ask() when several batches are out at once"
            )
        batch = self.scheduler.ask()
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
            ValueError: The batch was not asked for, or was told already.
        """
        backend = self.backend
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
        status = self.scheduler.tell(
            batch,
            evaluation.scores,
            evaluation.measures,
            evaluation.items,
            evaluation.solutions,
            evaluation.jacobians,
        )
        if batch.id == self._started:
            self._started = None
            scored = batch.solutions if evaluation.solutions is None else evaluation.solutions
            self._go_on(replace(evaluation, solutions=scored))
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
        if not self._seeds_asked:
            raise ValueError("the seeds were not asked for yet")
        failed = [name for name, ok in zip(batch.names, evaluation.valid, strict=True) if not ok]
        if failed:
            raise EvaluationError(
                f"{', '.join(failed)} could not be evaluated, and the archives are sized from the "
                "scores of base and experts; evaluate them alone to find the cause"
            )
        self.seed_scores = dict(zip(batch.names, evaluation.scores, strict=True))
        space = self.backend.space
        rows = [batch.names.index(name) for name in first_elites(space.experts, batch.names)]
        self._scheduler = self._build(evaluation.scores[rows])
        measures = evaluation.measures
        self._scheduler.offer(
            batch.solutions[rows],
            evaluation.scores[rows],
            None if measures is None else measures[rows],
        )
        self._go_on(None)

    def _build(self, expert_scores: np.ndarray) -> TaskScheduler:
        space, k = self.backend.space, len(self.tasks)
        emitter_seeds = _streams(self.seed)[1].generate_state(k * len(self._emitter_factories))
        archives = build_archives(
            self._archive_factory,
            self.backend.tasks,
            self.backend.measures,
            expert_scores,
            self._axes,
            solution_dim=space.dim,
            solution_dtype=space.dtype,
            seeds=archive_seeds(self.seed, k),
        )
        emitters = build_emitters(
            self._emitter_factories,
            self.backend.tasks,
            space,
            archives,
            emitter_seeds.reshape(k, -1).tolist(),
        )
        return self._scheduler_factory(archives, emitters)

    def elites(self, task: str) -> list[Elite]:
        """Return all elites of a task's archive, in the archive's order.

        Raises:
            KeyError: Unknown task.
        """
        data = self.archives[task].data(["solution", "objective", "measures"])
        k = len(self.tasks) - 1
        # The task's own column goes back to its place among the others.
        scores = np.insert(
            data["measures"][:, :k], self.tasks.index(task), data["objective"], axis=1
        )
        return [
            Elite(x, dict(zip(self.tasks, row.tolist(), strict=True)), measures[k:])
            for x, row, measures in zip(data["solution"], scores, data["measures"], strict=True)
        ]

    def best(self, task: str, by: Literal["quality", "mean"] = "quality") -> Elite:
        """Return the best elite of a task's archive.

        Args:
            task: Name of the task.
            by: "quality", the score on the task itself, or "mean", the mean over all tasks.

        Raises:
            KeyError: Unknown task.
            ValueError: Unknown ``by``.
        """
        keys: dict[str, Callable[[Elite], float]] = {
            "quality": lambda elite: elite.scores[task],
            "mean": lambda elite: float(np.mean(list(elite.scores.values()))),
        }
        if by not in keys:
            raise ValueError(f"by must be 'quality' or 'mean'; got {by!r}")
        return max(self.elites(task), key=keys[by])

    def aggregate(
        self, elite: Literal["quality", "mean"] = "quality", scale: float = 1.0
    ) -> np.ndarray:
        """Merge one elite of each archive; see :func:`qdmerge.operators.softmax_aggregate`.

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
            np.array([best.scores[task] for task, best in chosen.items()]),
            scale,
        )
        return np.clip(x, self.backend.space.lower_bounds, self.backend.space.upper_bounds)


def archive_stats(search: CycleQD) -> Stats:
    """Return the statistics of a search's archives; None where one is undefined."""

    def number(value: Any) -> float | None:
        return float(value) if value is not None and np.isfinite(value) else None

    return {
        task: {
            "elites": len(archive),
            "coverage": number(archive.stats.coverage),
            "qd_score": number(archive.stats.qd_score),
            "best": number(archive.stats.obj_max),
        }
        for task, archive in search.archives.items()
    }
