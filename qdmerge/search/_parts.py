"""The parts of one search: its factories, and what they make."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from qdmerge.archives import ArchiveFactory, AxisSizing, build_archives
from qdmerge.backend import GenomeBackend
from qdmerge.emitters import EmitterFactory, build_emitters, check_emitter
from qdmerge.errors import ConfigError, QDMergeError, described, kind_of, naming
from qdmerge.schedulers import TaskScheduler
from qdmerge.search._arguments import SchedulerFactory, makes_new, takes_seed
from qdmerge.search._elites import archive_seeds, streams
from qdmerge.search._noise import Noise
from qdmerge.search._trial import made_up_scores, stand_in, try_parts

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase


@dataclass(repr=False)
class SearchParts:
    """The parts of one search."""

    backend: GenomeBackend
    archive: ArchiveFactory
    emitters: tuple[EmitterFactory, ...]
    make_scheduler: SchedulerFactory
    axes: AxisSizing
    seed: int
    _own: dict[str, ArchiveBase] | None = field(default=None, init=False)
    """The archives, where they are built before the seeds' scores are known."""
    _noise: Noise | None = field(default=None, init=False)

    def __repr__(self) -> str:
        archive, *emitters, scheduler = map(
            described, (self.archive, *self.emitters, self.make_scheduler)
        )
        tasks = ", ".join(task.name for task in self.backend.tasks)
        return (
            f"tasks {tasks}; archive {archive}, emitters {', '.join(emitters) or 'none'}, "
            f"scheduler {scheduler}, seed {self.seed}"
        )

    def try_out(self, noise: Noise | None) -> bool:
        """Let the parts have one turn with made-up scores, on archives that are thrown away.

        A function of the user's may keep the archives that it makes. So it is called once: now,
        if the axes do not depend on scores, else when there are scores; something else stands for
        its archives here, and what cannot work there may still work on them.

        Args:
            noise: Checks the archives too, if scores are noisy.

        Returns:
            Whether emitters ask for a guide.
        """
        self._noise = noise
        scores = made_up_scores(len(self.backend.tasks))
        own = not makes_new(self.archive)
        if own and self.axes.known(self.backend.tasks):
            self._own = self._archives(self.archive, scores)
        archives = self._archives(stand_in if own else self.archive, scores)
        try:
            scheduler = self.scheduler(archives)
            for task, archive in (self._own or {}).items():
                for emitter in scheduler.emitters[task]:
                    check_emitter(emitter, archive, task)
            return try_parts(scheduler, self.backend)
        except QDMergeError as error:
            if own and isinstance(error.__cause__, AttributeError | TypeError):
                return False
            raise

    def archives(self, expert_scores: np.ndarray) -> dict[str, ArchiveBase]:
        """Build the archives, sized from the ``(n_experts, K)`` scores of the experts."""
        return self._own or self._archives(self.archive, expert_scores)

    def _archives(
        self, factory: ArchiveFactory, expert_scores: np.ndarray
    ) -> dict[str, ArchiveBase]:
        space = self.backend.space
        archives = build_archives(
            factory,
            self.backend.tasks,
            self.backend.measures,
            expert_scores,
            self.axes,
            solution_dim=space.dim,
            solution_dtype=space.dtype,
            seeds=archive_seeds(self.seed, len(self.backend.tasks)),
        )
        if self._noise is not None:
            self._noise.check(archives)
        return archives

    def scheduler(self, archives: Mapping[str, ArchiveBase]) -> TaskScheduler:
        """Build the scheduler with all emitters."""
        k = len(archives)
        _, for_emitters, for_scheduler = streams(self.seed)
        emitters = build_emitters(
            self.emitters,
            self.backend.tasks,
            self.backend.space,
            archives,
            for_emitters.generate_state(k * len(self.emitters)).reshape(k, -1).tolist(),
        )
        factory = self.make_scheduler
        if takes_seed(factory):
            factory = functools.partial(factory, seed=int(for_scheduler.generate_state(1)[0]))
        with naming(f"scheduler ({described(factory)})"):
            scheduler = factory(archives, emitters)
        if not isinstance(scheduler, TaskScheduler):
            raise ConfigError(
                f"scheduler: the factory returned {kind_of(scheduler)}; it must return a "
                "qdmerge.schedulers.TaskScheduler"
            )
        return scheduler
