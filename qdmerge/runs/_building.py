"""Backends and searches from settings, and what a backend does for a run besides scoring."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.backend import GenomeBackend, Progress, Task
from qdmerge.criteria import Criterion, CriterionName, fitting_criteria
from qdmerge.errors import ConfigError, QDMergeError, RunError
from qdmerge.execution import Executor
from qdmerge.guide import Start, guide_of
from qdmerge.parts import SPACES, build_part
from qdmerge.runs._folder import RunFolder
from qdmerge.runs._scores import REFERENCES
from qdmerge.runs._search import Listener, stage_progress
from qdmerge.search import CycleQD
from qdmerge.settings import FinalConfig, GuidedStart, PlaneStart, RunConfig, load_config
from qdmerge.storage import building_seconds

if TYPE_CHECKING:
    from qdmerge.checkpoints import TaskVectors
    from qdmerge.spaces import Objective, Space, WeightSpace

DECISIVE = ("dtype", "weights", "base_files", "statistics", "items", "calibration")
"""Facts that decide, beside the settings, what a solution scores; the last is the space's."""


class BuildBackend:
    """Builder of a configuration's backend; picklable, so that workers build their own.

    Args:
        config: The run's configuration.
    """

    def __init__(self, config: RunConfig) -> None:
        self._backend = config.backend
        self._space = config.space

    def __call__(self) -> GenomeBackend:
        """Build the backend with the configured space; ConfigError if the backend has a space of
        its own, or does not give the configured one what it needs.
        """
        part = self._space
        if part is None:
            return self._backend.build(None)
        built = []

        def space(vectors: TaskVectors) -> WeightSpace:
            built.append(build_part(SPACES, part, {"vectors": vectors}))
            return built[-1]

        backend = self._backend.build(space)
        if not built:
            raise ConfigError(
                f"backend '{self._backend.name}' has a space of its own, so 'space: {part.name}' "
                "would be ignored; remove it, or the search preset that sets it"
            )
        built[-1].ready()
        return backend


def load_backend(source: str | Path, overrides: Sequence[str] = ()) -> GenomeBackend:
    """Build the backend of a configuration file, a preset, or a backend's first preset.

    Args:
        source: Path of a YAML file, or a name of ``qdmerge list``.
        overrides: ``"dotted.key=value"`` settings that win over the source.

    Raises:
        QDMergeError: The configuration is wrong, or the backend cannot be built.
    """
    return BuildBackend(load_config(source, overrides))()


def build_search(config: RunConfig, backend: GenomeBackend) -> CycleQD:
    """Build the search of a configuration.

    Raises:
        QDMergeError: Parts that do not fit each other, or options that a part refuses.
    """
    search = CycleQD(
        backend,
        archive=config.archive,
        emitters=config.emitters,
        scheduler=config.scheduler,
        axes=config.axes,
        start=_start(config) if config.start else None,
        reevaluate=config.reevaluate,
        seed=config.seed,
    )
    for objective in objectives(config, search):
        guide_of(backend, objective)
    return search


def _start(config: RunConfig) -> Callable[[Space, Sequence[Task]], Start]:
    """Return what the search starts from."""
    from qdmerge.merges import grid, guided_start, plane_start, recipe_solutions

    def start(space: Space, tasks: Sequence[Task]) -> Start:
        climbs = [part for part in config.start if isinstance(part, GuidedStart | PlaneStart)]
        merges = [
            recipe_solutions(part.recipe, space, grid(part.recipe, len(space.experts), part.axes))
            for part in config.start
            if not isinstance(part, GuidedStart | PlaneStart)
        ]
        if merges:
            yield np.concatenate(merges), ()
        for part in climbs:
            options = part.model_dump(exclude={"recipe"})
            climb = guided_start if isinstance(part, GuidedStart) else plane_start
            yield from climb(space, tasks, **options, seed=config.seed)

    return start


def objectives(config: RunConfig, search: CycleQD) -> set[Objective]:
    """Return which losses of a guide a run asks for; none if it asks for no guide."""
    found = {part.objective for part in config.start if isinstance(part, GuidedStart)}
    if search.guided or any(isinstance(part, PlaneStart) for part in config.start):
        found.add("agreement")
    return found


def final_criteria(settings: FinalConfig, tasks: Sequence[Task]) -> dict[CriterionName, Criterion]:
    """Return the criteria that fit the tasks; the one that chooses is the first and must fit."""
    ranges = {task.name: task.range for task in tasks}
    return fitting_criteria(settings.choose_by, ranges, settings.weights)


def domain_facts(backend: GenomeBackend, guided: bool = False) -> dict[str, Any]:
    """Return the facts of the backend, its space and, if it is used, its guide, as a log would give
    them back.
    """
    from qdmerge.spaces import WeightSpace

    space = backend.space
    facts = dict(backend.facts())
    if isinstance(space, WeightSpace):
        facts |= {"base_files": space.vectors.companions, **space.facts()}
    if guided:
        facts["guide"] = guide_of(backend).key()
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain


def changed_facts(
    recorded: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str] = DECISIVE
) -> list[str]:
    """Return the names of the facts that differ from the recorded ones."""
    return [name for name in names if recorded.get(name) != now.get(name)]


@dataclass(frozen=True)
class SharedBackend:
    """A backend and its executor, for several runs of the same domain and space.

    Attributes:
        backend: The backend.
        executor: Evaluates models of that backend.
    """

    backend: GenomeBackend
    executor: Executor
    _spent: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def prepare(self, listener: Listener, guided: bool = False) -> float:
        """Let space and guide prepare what all models share, while no evaluation's time limit runs.

        Args:
            listener: Receives the progress.
            guided: Whether the guide is used.

        Returns:
            The seconds that it took, or where it is known already, once took.
        """
        from qdmerge.spaces import WeightSpace

        space = self.backend.space
        steps: dict[str, Callable[[Progress], None]] = {}
        if isinstance(space, WeightSpace):
            steps["space"] = space.warm_up
        if guided:
            steps["guide"] = guide_of(self.backend).prepare
        with self._lock:
            for name in [name for name in steps if name not in self._spent]:
                began = time.perf_counter()
                with building_seconds() as built:
                    steps[name](stage_progress(listener))
                self._spent[name] = max(sum(built), time.perf_counter() - began)
            return sum(self._spent[name] for name in steps)


def can_illustrate(backend: GenomeBackend) -> bool:
    """Return whether the backend has figures of its own."""
    method = getattr(type(backend), "illustrate", GenomeBackend.illustrate)
    return method is not GenomeBackend.illustrate


def draw_examples(folder: RunFolder, backend: GenomeBackend) -> list[Path]:
    """Let the backend draw its own figures of a run's models; return their paths."""
    if not can_illustrate(backend):
        raise ConfigError(
            f"{type(backend).__name__} draws no examples, as it has no method 'illustrate'; leave "
            "--examples out"
        )
    results = folder.read_results()
    rows = [row for kind in REFERENCES for row in results["candidates"] if row["kind"] == kind]
    rows += [row for row in results["candidates"] if row["name"] == results["chosen"]]
    models = {row["name"]: folder.solutions.get(row["solution"]) for row in rows}
    try:
        folder.figures.mkdir(exist_ok=True)
        return [Path(path) for path in backend.illustrate(models, folder.figures)]
    except Exception as error:
        kind = "" if isinstance(error, QDMergeError) else f"{type(error).__name__}: "
        cause = " ".join(f"{kind}{error}".split()).removesuffix(":")
        raise RunError(f"the backend's examples could not be drawn: {cause}") from error
