"""Build the emitters of a search, a list per task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.errors import ConfigError

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase
    from ribs.emitters import EmitterBase

    from qdmerge.backend import Task
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


def paper_emitter(archive: ArchiveBase, spec: EmitterSpec) -> EmitterBase:
    """Build CycleQD's emitter with the paper's constants.

    Elite selection, linear crossover (sigma 0.03), and SVD mutation (scale 0.1, one-sided): of the
    child where the space has cores, of the active task's expert where it has spectral coordinates
    and the task an expert; else, and where the model has no matrix, Gaussian mutation (sigma 0.05).
    """
    from qdmerge.emitters._merge import MergeEmitter
    from qdmerge.operators import (
        ChildSVDMutation,
        EliteSelection,
        GaussianMutation,
        LinearCrossover,
        Mutation,
        SVDMutation,
    )

    space, expert = spec.space, spec.expert
    mutation: Mutation = GaussianMutation()
    if hasattr(space, "core_coordinates") and space.core_coordinates():
        mutation = ChildSVDMutation(space)
    elif expert and hasattr(space, "spectral_coordinates") and space.spectral_coordinates(expert):
        mutation = SVDMutation(space, expert)
    return MergeEmitter(
        archive,
        selection=EliteSelection(),
        crossover=LinearCrossover(),
        mutation=mutation,
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
    return {
        task.name: [
            factory(
                archives[task.name],
                EmitterSpec(task.name, expert_of(task, space), space, len(tasks) - 1, seed, names),
            )
            for factory, seed in zip(factories, task_seeds, strict=True)
        ]
        for task, task_seeds in zip(tasks, seeds, strict=True)
    }
