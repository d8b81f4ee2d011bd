"""Build the emitters of a search, a list per task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.errors import ConfigError, UnsupportedError, described, kind_of, naming

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase
    from ribs.emitters import EmitterBase

    from qdmerge.backend import Task
    from qdmerge.operators import Mutation
    from qdmerge.spaces import Space


@dataclass(frozen=True)
class EmitterSpec:
    """What a search gives the factory of an emitter.

    Attributes:
        task: Task of the emitter's archive.
        expert: Expert of that task, or None.
        space: Space of the solutions.
        n_scores: Number of leading measures that are task scores.
        seed: Seed of this emitter.
        tasks: All tasks, in the order of the scores.
    """

    task: str
    expert: str | None
    space: Space
    n_scores: int
    seed: int
    tasks: tuple[str, ...] = ()

    @property
    def context(self) -> dict[str, Any]:
        """Values that fill the parameters of a configured emitter, by name."""
        space = self.space
        free = not (np.isfinite(space.lower_bounds).any() or np.isfinite(space.upper_bounds).any())
        return {
            "spec": self,
            "x0": space.x0,
            "lower_bounds": None if free else space.lower_bounds,
            "upper_bounds": None if free else space.upper_bounds,
            "seed": self.seed,
        }


EmitterFactory = Callable[["ArchiveBase", EmitterSpec], "EmitterBase"]


def paper_mutation(space: Space, expert: str | None) -> Mutation:
    """Return CycleQD's mutation in a space, for tasks of an expert or of none.

    SVD mutation (scale 0.1, one-sided): of the child where the space has cores, of the active
    task's expert where it has spectral coordinates and the task an expert; else, and where the
    model has no matrix, Gaussian mutation (sigma 0.05).
    """
    from qdmerge.operators import ChildSVDMutation, GaussianMutation, SVDMutation

    if hasattr(space, "core_coordinates") and space.core_coordinates():
        return ChildSVDMutation(space)
    if expert and hasattr(space, "spectral_coordinates") and space.spectral_coordinates(expert):
        return SVDMutation(space, expert)
    return GaussianMutation()


def paper_emitter(archive: ArchiveBase, spec: EmitterSpec) -> EmitterBase:
    """Build CycleQD's emitter with the paper's constants.

    Elite selection, linear crossover (sigma 0.03), and :func:`paper_mutation`.
    """
    from qdmerge.emitters._merge import MergeEmitter
    from qdmerge.operators import EliteSelection, LinearCrossover

    return MergeEmitter(
        archive,
        selection=EliteSelection(),
        crossover=LinearCrossover(),
        mutation=paper_mutation(spec.space, spec.expert),
        n_scores=spec.n_scores,
        lower_bounds=spec.space.lower_bounds,
        upper_bounds=spec.space.upper_bounds,
        seed=spec.seed,
    )


def expert_of(task: Task, space: Space) -> str | None:
    """Return the name of a task's expert, or None.

    Raises:
        ConfigError: The task names an expert that the space does not have.
    """
    if task.expert is None:
        return task.name if task.name in space.experts else None
    if task.expert not in space.experts:
        raise ConfigError(
            f"task '{task.name}' names expert '{task.expert}', which is not among the experts: "
            f"{', '.join(space.experts) or 'none'}"
        )
    return task.expert


def build_emitters(
    factories: Sequence[EmitterFactory],
    tasks: Sequence[Task],
    space: Space,
    archives: Mapping[str, ArchiveBase],
    seeds: Sequence[Sequence[int]],
) -> dict[str, list[EmitterBase]]:
    """Build every factory's emitter for every task.

    Args:
        factories: What makes the emitters of one task.
        tasks: The K tasks.
        space: Space of the solutions.
        archives: Task name to archive.
        seeds: K lists with a seed per factory.
    """
    names = tuple(task.name for task in tasks)
    emitters: dict[str, list[EmitterBase]] = {}
    for task, task_seeds in zip(tasks, seeds, strict=True):
        archive, expert = archives[task.name], expert_of(task, space)
        emitters[task.name] = []
        for factory, seed in zip(factories, task_seeds, strict=True):
            spec = EmitterSpec(task.name, expert, space, len(tasks) - 1, seed, names)
            where = f"emitter of task '{task.name}' ({described(factory)})"
            with naming(where):
                try:
                    emitter = factory(archive, spec)
                except AttributeError as error:
                    if error.obj is not archive:
                        raise
                    need = f"'{error.name}'"
                    raise UnsupportedError(_needs(where, "its ranker", need, archive)) from error
            check_emitter(emitter, archive, task.name)
            emitters[task.name].append(emitter)
    return emitters


def check_emitter(emitter: Any, archive: ArchiveBase, task: str) -> None:
    """Check that what a factory made can be an emitter of a task's archive.

    Raises:
        ConfigError: It is no emitter, or of another archive.
        UnsupportedError: Its ranker needs what the archive does not give.
    """
    from ribs.archives import ProximityArchive
    from ribs.emitters import BayesianOptimizationEmitter, EmitterBase, rankers

    where = f"emitter of task '{task}' ({type(emitter).__name__})"
    if not isinstance(emitter, EmitterBase):
        raise ConfigError(
            f"emitter of task '{task}': the factory returned {kind_of(emitter)}; it must return a "
            "pyribs emitter"
        )
    if isinstance(emitter, BayesianOptimizationEmitter) and emitter.upscale_schedule is not None:
        raise UnsupportedError(f"{where}: archives keep their bins; leave upscale_schedule out")
    if not type(archive).__module__.startswith("ribs."):
        return
    novel = isinstance(archive, ProximityArchive)
    needs = {
        rankers.DensityRanker: ("the density of solutions", False),
        rankers.NoveltyRanker: ("novelty, which archive 'proximity' gives", novel),
        rankers.NSLCClassicRanker: ("genotypic diversity", False),
        rankers.NSLCRanker: (
            "novelty and local competition, which archive 'proximity' gives",
            novel and archive.local_competition,
        ),
    }
    ranker = getattr(emitter, "_ranker", None)
    for needy, (need, given) in needs.items():
        if isinstance(ranker, needy) and not given:
            raise UnsupportedError(_needs(where, type(ranker).__name__, need, archive))


def _needs(where: str, ranker: str, need: str, archive: ArchiveBase) -> str:
    return (
        f"{where}: {ranker} needs {need}, and {type(archive).__name__} has none; choose another "
        "ranker, such as 2imp, or another archive"
    )
