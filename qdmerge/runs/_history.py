"""What a run's log tells: its evaluations, its archives at any moment, its models by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.archives import build_archives, role_of
from qdmerge.backend import GenomeBackend, Measure, Task
from qdmerge.errors import RunError, nearest
from qdmerge.guide import Plane
from qdmerge.operators import softmax_aggregate
from qdmerge.parts import ARCHIVES, build_part
from qdmerge.runs._folder import RunFolder
from qdmerge.runs._log import Event, SolutionStore
from qdmerge.search import Stats, archive_seeds, first_elites
from qdmerge.settings import RunConfig

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.spaces import Space


@dataclass(frozen=True)
class Evaluated:
    """A model that was asked for in the search.

    Attributes:
        solution: Id of its solution vector; of what was scored, once a guide has improved it.
        name: Name of a seed, or "".
        batch: Number of its batch; -1 for the seeds.
        task: Active task when it was made; None for seeds.
        parents: Ids of its parents' solutions, or () where unknown.
        scores: ``(K,)`` float64 validation scores; None if it failed or is not evaluated yet.
        measures: ``(M,)`` float64, the backend's own measures; None likewise.
        seconds: Wall time of its evaluation, without the guide's.
        passes: Gradient passes of the guide.
        guide_seconds: Wall time of the guide.
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
    passes: int = 0
    guide_seconds: float = 0.0
    cause: str | None = None


@dataclass
class History:
    """A run, read from its log.

    Attributes:
        tasks: The K tasks.
        measures: The backend's own measures.
        experts: Names of the experts.
        facts: Facts of the backend and the machine.
        evaluated: Every model of the search, in the order it was asked for.
        told: Numbers of the batches that the search was told, in order.
        stats: Per told batch: evaluations of children so far, and the archives' statistics.
        final: Evaluations after the search: solution, split, scores and items.
        finished: Whether the run has its results.
        stopped: Why the run ended before its end, or None.
        corners: Id of the corners of the plane that was learned last, or None.
        session_seconds: Wall time of each session.
        preparing_seconds: What it took to prepare what all models share, in whichever session or
            run that was done.
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
    corners: str | None = None
    session_seconds: list[float] = field(default_factory=list)
    preparing_seconds: float = 0.0

    @property
    def n_children(self) -> int:
        """Number of children whose evaluation ended, failed ones included."""
        return sum(1 for e in self.evaluated if e.batch >= 0 and (e.cause or e.scores is not None))

    @property
    def n_failed(self) -> int:
        """Number of children whose evaluation failed."""
        return sum(1 for e in self.evaluated if e.cause is not None)

    @property
    def evaluating_seconds(self) -> float:
        """Seconds spent in evaluations, summed over workers."""
        search = sum(e.seconds for e in self.evaluated)
        return search + sum(float(event["seconds"]) for event in self.final)

    def plane(self, space: Space, store: SolutionStore) -> Plane | None:
        """Return the run's plane, or None.

        Args:
            space: The run's space.
            store: The run's solutions.

        Raises:
            RunError: It is missing or damaged.
        """
        return Plane(space, store.get(self.corners)) if self.corners else None

    @property
    def gradient_passes(self) -> int:
        """Gradient passes of the guide in the search."""
        return sum(e.passes for e in self.evaluated)

    @property
    def guiding_seconds(self) -> float:
        """Seconds spent by the guide in the search, summed over workers."""
        return sum(e.guide_seconds for e in self.evaluated)

    def archives(self, config: RunConfig, upto: int | None = None) -> dict[str, ArchiveBase]:
        """Rebuild the archives after the first told batches, without emitters.

        Their solutions are ``(1,)``: the position in :attr:`evaluated`.

        Args:
            config: The run's configuration.
            upto: How many told batches, the seeds' included; all of them if not given.

        Returns:
            Task name to archive; empty before the seeds were told.
        """
        return next(self.growth(config, [len(self.told) if upto is None else upto]), {})

    def growth(self, config: RunConfig, moments: Iterable[int]) -> Iterator[dict[str, ArchiveBase]]:
        """Rebuild the archives at several moments of the run; they grow from one to the next.

        Args:
            config: The run's configuration.
            moments: Rising numbers of told batches, the seeds' included.

        Yields:
            The same archives at each moment from the seeds on, as :meth:`archives` returns them.
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
        """Per told batch, the positions in ``evaluated`` that the archives were offered."""
        seeds = [model.name for model in self.evaluated if model.batch == -1]
        elites = first_elites(self.experts, seeds)
        by_batch: dict[int, list[int]] = {}
        for position, model in enumerate(self.evaluated):
            if model.scores is not None and (model.batch >= 0 or model.name in elites):
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
    """Read the events of a log.

    Raises:
        RunError: An event is none that a run writes.
    """
    number = 0

    def counted() -> Iterator[Event]:
        nonlocal number
        for number, event in enumerate(events, start=1):  # noqa: B007
            yield event

    try:
        return _read_history(counted())
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise RunError(
            f"event {number} of the log is not as a run writes it ({error!r})"
        ) from error


def _read_history(events: Iterable[Event]) -> History:
    history = History()
    position_of: dict[tuple[int, int], int] = {}
    session = [0.0, 0.0]
    ended = 0
    for event in events:
        kind, now = event["event"], float(event["time"])
        if kind in ("start", "resume", "weights"):
            if session[1]:
                history.session_seconds.append(session[1] - session[0])
            session = [float(event["began"]), now]
        if kind in ("start", "resume"):
            history.stopped = None
        session[1] = now
        if kind == "start":
            _read_start(history, event)
        elif kind == "prepared":
            history.preparing_seconds = float(event["seconds"])
        elif kind == "ask":
            for index, model in enumerate(_asked(event)):
                position_of[model.batch, index] = len(history.evaluated)
                history.evaluated.append(model)
        elif kind in ("scores", "failed"):
            position = position_of[event["batch"], event["index"]]
            before = history.evaluated[position]
            ended += before.batch >= 0 and before.cause is None and before.scores is None
            history.evaluated[position] = _with_outcome(before, event)
            history.corners = event.get("plane", history.corners)
        elif kind == "tell":
            history.told.append(event["batch"])
            history.stats.append((ended, event["stats"]))
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
    """Return tasks, measures and experts of a backend, as :func:`read_history` reads them."""

    def plain(part: Task | Measure) -> dict[str, Any]:
        # JSON has no number for infinite ends.
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
        solution=event.get("improved", model.solution),
        scores=np.array(event["scores"], float),
        measures=np.array(event["measures"], float),
        seconds=float(event["seconds"]),
        passes=event.get("passes", 0),
        guide_seconds=float(event.get("guiding", 0.0)),
        cause=None,
    )


def lookup_solution(folder: RunFolder, config: RunConfig, what: str) -> np.ndarray:
    """Look up the solution of a model, without replay and backend.

    Args:
        folder: The run's folder.
        config: Its configuration.
        what: In a finished run "chosen" or a candidate's name; at any time "best:TASK",
            "aggregate", a seed's name, or the beginning of the id of an evaluated solution.

    Returns:
        ``(dim,)`` solution.

    Raises:
        RunError: The run has no such model.
    """
    history = read_history(folder.read_events())
    best = {
        task: int(archive.best_elite["solution"][0])
        for task, archive in history.archives(config).items()
    }
    by_name = {model.name: model.solution for model in history.evaluated if model.name}
    by_name |= {
        f"best:{task}": history.evaluated[position].solution for task, position in best.items()
    }
    if folder.results.is_file():  # names of the results win
        results = folder.read_results()
        by_name |= {row["name"]: row["solution"] for row in results["candidates"]}
        by_name["chosen"] = by_name[results["chosen"]]
    if what not in by_name and what == "aggregate" and best:
        models = [history.evaluated[position] for position in best.values()]
        scores = [model.scores for model in models]
        qualities = [row[task] for task, row in enumerate(scores) if row is not None]
        xs = [folder.solutions.get(model.solution) for model in models]
        return softmax_aggregate(np.stack(xs), np.array(qualities))
    if what in by_name:
        return folder.solutions.get(by_name[what])
    return folder.solutions.get(_by_id(history, what, list(by_name)))


def _by_id(history: History, what: str, names: list[str]) -> str:
    ids = {model.solution for model in history.evaluated}
    ids |= {event["solution"] for event in history.final}
    found = [identity for identity in ids if len(what) >= 4 and identity.startswith(what)]
    if len(found) > 1:
        raise RunError(f"'{what}' is the beginning of {len(found)} ids; give more of it")
    if not found:
        known = ", ".join([*names, "aggregate"])
        raise RunError(
            f"there is no model '{what}' in this run{nearest(what, names)} Known: {known}, or the "
            "id of an evaluated solution"
        )
    return found[0]
