"""What a log tells: the evaluations of a run, and its archives as they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.archives import build_archives, role_of
from qdmerge.backend import GenomeBackend, Measure, Task
from qdmerge.runs._log import Event
from qdmerge.search import archive_seeds
from qdmerge.settings import ARCHIVES, RunConfig, build_part

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

Stats = dict[str, dict[str, float | int | None]]
"""Task name to elites, coverage, QD score and best objective of its archive."""


@dataclass(frozen=True)
class Evaluated:
    """A model that was asked for in the search.

    Attributes:
        solution: Id of its solution vector.
        name: Name of a seed, or "".
        batch: Number of its batch; -1 for the seeds.
        task: Active task when it was made; None for seeds.
        parents: Ids of its parents' solutions, or () where unknown.
        scores: ``(K,)`` validation scores, or None if it failed or waits.
        measures: ``(M,)`` the backend's own measures, or None likewise.
        seconds: What its evaluation took.
        cause: Why it failed, or None.
    """

    solution: str
    name: str
    batch: int
    task: str | None
    parents: tuple[str, ...] = ()
    scores: np.ndarray | None = None
    measures: np.ndarray | None = None
    seconds: float = 0.0
    cause: str | None = None


@dataclass
class History:
    """A run as its log tells it.

    Attributes:
        tasks: The K tasks.
        measures: The backend's own measures.
        experts: Names of the experts, the seeds that entered the archives.
        facts: What the backend and the machine said of themselves.
        evaluated: Every model of the search, in the order it was asked for.
        told: Numbers of the told batches, in order.
        stats: Per told batch: evaluations of children so far, and the archives' statistics.
        final: Evaluations after the search: solution, split, scores and items.
        finished: Whether the run has its results.
        stopped: Why the run ended before its end, or None.
        session_seconds: Wall time of every session.
    """

    tasks: tuple[Task, ...] = ()
    measures: tuple[Measure, ...] = ()
    experts: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    evaluated: list[Evaluated] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    stats: list[tuple[int, Stats]] = field(default_factory=list)
    final: list[Event] = field(default_factory=list)
    finished: bool = False
    stopped: str | None = None
    session_seconds: list[float] = field(default_factory=list)

    @property
    def n_children(self) -> int:
        """Children whose evaluation ended, failed ones included."""
        return sum(1 for e in self.evaluated if e.batch >= 0 and (e.cause or e.scores is not None))

    @property
    def n_failed(self) -> int:
        """Children whose evaluation failed."""
        return sum(1 for e in self.evaluated if e.cause is not None)

    @property
    def evaluating_seconds(self) -> float:
        """Seconds spent in evaluations, summed over workers."""
        search = sum(e.seconds for e in self.evaluated)
        return search + sum(float(event["seconds"]) for event in self.final)

    def archives(self, config: RunConfig, upto: int | None = None) -> dict[str, ArchiveBase]:
        """The archives after the first told batches, rebuilt without emitters.

        Their solutions are ``(1,)``: the position in :attr:`evaluated`.

        Args:
            config: The run's configuration.
            upto: How many told batches, the seeds' included; all of them if not given.

        Returns:
            Task name to archive; empty if the seeds were not told yet.
        """
        found: dict[str, ArchiveBase] = {}
        for found in self.growth(config, [len(self.told) if upto is None else upto]):  # noqa: B007
            pass
        return found

    def growth(self, config: RunConfig, moments: Iterable[int]) -> Iterator[dict[str, ArchiveBase]]:
        """The archives at several moments of the run, rebuilt once: they grow from one to the next.

        Args:
            config: The run's configuration.
            moments: Rising numbers of told batches, the seeds' included; 0 tells nothing.

        Yields:
            The archives at each moment, as :meth:`archives` returns them; what was yielded before
            has then changed.
        """
        told = 0
        archives: dict[str, ArchiveBase] = {}
        positions = self._told_positions()
        for moment in moments:
            for batch in positions[told:moment]:
                archives = archives or self._empty_archives(config, batch)
                self._offer(archives, batch)
            told = moment
            if archives:
                yield archives

    def _told_positions(self) -> list[list[int]]:
        """Per told batch, what of it was offered to the archives: positions in ``evaluated``."""
        by_batch: dict[int, list[int]] = {}
        for position, model in enumerate(self.evaluated):
            # Of the seeds, only the experts enter the archives; the base does not.
            seed = model.batch == -1 and bool(self.experts)
            if model.scores is not None and (not seed or model.name in self.experts):
                by_batch.setdefault(model.batch, []).append(position)
        return [by_batch.get(batch, []) for batch in self.told]

    def _empty_archives(self, config: RunConfig, seeds: list[int]) -> dict[str, ArchiveBase]:
        return build_archives(
            lambda spec: build_part(ARCHIVES, config.archive, spec.context),
            self.tasks,
            self.measures,
            np.stack([self._scores(p) for p in seeds]),
            config.axes,
            solution_dim=1,
            solution_dtype=np.dtype(np.float64),
            seeds=archive_seeds(config.seed, len(self.tasks)),
        )

    def _offer(self, archives: dict[str, ArchiveBase], positions: list[int]) -> None:
        if not positions:
            return
        scores = np.stack([self._scores(p) for p in positions])
        measures = np.stack([self._own_measures(p) for p in positions])
        for column, archive in enumerate(archives.values()):
            archive.add(
                solution=np.array(positions, float)[:, None], **role_of(column, scores, measures)
            )

    def _scores(self, position: int) -> np.ndarray:
        scores = self.evaluated[position].scores
        assert scores is not None
        return scores

    def _own_measures(self, position: int) -> np.ndarray:
        measures = self.evaluated[position].measures
        return np.empty(0) if measures is None else measures


def read_history(events: Iterable[Event]) -> History:
    """Reads a log's events."""
    history = History()
    position_of: dict[tuple[int, int], int] = {}
    session = [0.0, 0.0]
    for event in events:
        kind, now = event["event"], float(event["time"])
        if kind in ("start", "resume"):
            if session[1]:
                history.session_seconds.append(session[1] - session[0])
            session = [float(event["began"]), now]
            history.stopped = None
        session[1] = now
        if kind == "start":
            _read_start(history, event)
        elif kind == "ask":
            for index, model in enumerate(_asked(event)):
                position_of[model.batch, index] = len(history.evaluated)
                history.evaluated.append(model)
        elif kind in ("scores", "failed"):
            position = position_of[event["batch"], event["index"]]
            history.evaluated[position] = _with_outcome(history.evaluated[position], event)
        elif kind == "tell":
            history.told.append(event["batch"])
            history.stats.append((history.n_children, event["stats"]))
        elif kind == "final":
            history.final.append(event)
        elif kind == "stop":
            history.stopped = event["reason"]
        elif kind == "done":
            history.finished = True
    history.session_seconds.append(session[1] - session[0])
    return history


def _read_start(history: History, event: Event) -> None:
    history.tasks = tuple(
        Task(**{**task, "range": tuple(float(end) for end in task["range"])})
        for task in event["tasks"]
    )
    history.measures = tuple(
        Measure(measure["name"], tuple(measure["range"])) for measure in event["measures"]
    )
    history.experts = tuple(event["experts"])
    history.facts = event["facts"]


def describe_domain(backend: GenomeBackend) -> dict[str, Any]:
    """Tasks, measures and experts of a backend, as :func:`read_history` reads them.

    Infinite ends of ranges are written as text, which JSON has no number for.
    """

    def plain(part: Task | Measure) -> dict[str, Any]:
        ends = [end if np.isfinite(end) else str(end) for end in part.range]
        return {**asdict(part), "range": ends}

    return {
        "tasks": [plain(task) for task in backend.tasks],
        "measures": [plain(measure) for measure in backend.measures],
        "experts": list(backend.space.experts),
    }


def _asked(event: Event) -> list[Evaluated]:
    solutions = event["solutions"]
    names = event["names"] or [""] * len(solutions)
    parents = event["parents"] or [None] * len(solutions)
    return [
        Evaluated(solution, name, event["batch"], event["task"], tuple(made_from or ()))
        for solution, name, made_from in zip(solutions, names, parents, strict=True)
    ]


def _with_outcome(model: Evaluated, event: Event) -> Evaluated:
    if event["event"] == "failed":
        return replace(model, cause=event["cause"])
    return replace(
        model,
        scores=np.array(event["scores"], float),
        measures=np.array(event["measures"], float),
        seconds=float(event["seconds"]),
        cause=None,
    )
