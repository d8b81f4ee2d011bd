"""Build the K archives of a search, one per task."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from qdmerge.archives._axes import AxisSizing
from qdmerge.archives._fit import check_archive
from qdmerge.archives._spec import ArchiveSpec
from qdmerge.errors import ConfigError, described, naming, nearest
from qdmerge.options import checked

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.backend import Measure, Task


ArchiveFactory = Callable[[ArchiveSpec], "ArchiveBase"]

Bins = Annotated[int, Field(ge=1)]


@checked
def grid(
    spec: ArchiveSpec,
    bins: Bins | list[Bins] = 15,
    learning_rate: Annotated[float, Field(ge=0, le=1)] | None = None,
    threshold_min: float | None = None,
) -> ArchiveBase:
    """Build a grid with equal bins on each axis, the paper's archive.

    Cells are closed below and open above, the last one closed on both sides (pyribs); the released
    CycleQD code closes bins above. Values outside an axis count into its first or last bin.

    All cells are reserved at once: ``archives * bins ** axes * solution_dim`` numbers in a search.
    Memory is taken as elites come, in pages of up to 2 MiB: a third of the cells can take most of
    it.

    Args:
        spec: What the search provides.
        bins: Number of bins of every axis, or one number per axis.
        learning_rate: How fast the objective that a new elite must exceed rises in a cell (CMA-MAE,
            CMA-MAEGA); below 1 an elite may be replaced by a worse one. None for 1.
        threshold_min: That objective in an empty cell; None for the task's lowest.

    Raises:
        ConfigError: ``bins`` does not fit the axes, or full archives would not fit into memory.
    """
    from ribs.archives import GridArchive

    dims = _dims("grid", spec, bins)
    annealing: dict[str, float] = {}
    if learning_rate is not None or threshold_min is not None:
        annealing = {
            "learning_rate": 1.0 if learning_rate is None else learning_rate,
            "threshold_min": spec.qd_score_offset if threshold_min is None else threshold_min,
        }
    return GridArchive(dims=dims, ranges=spec.ranges, **annealing, **spec.storage)


@checked
def sliding(
    spec: ArchiveSpec,
    bins: Bins | list[Bins] = 15,
    remap: Annotated[int, Field(ge=1)] = 100,
    buffer: Annotated[int, Field(ge=1)] = 1000,
) -> ArchiveBase:
    """Build a grid whose boundaries follow the measures of the models found (arXiv 1904.10656).

    Args:
        spec: What the search provides.
        bins: Number of bins of every axis, or one number per axis.
        remap: Solutions after which the boundaries are drawn anew.
        buffer: Latest solutions that decide the boundaries and are added again.

    Raises:
        ConfigError: See :func:`grid`.
    """
    from ribs.archives import SlidingBoundariesArchive

    dims = _dims("sliding", spec, bins)
    return SlidingBoundariesArchive(
        dims=dims,
        ranges=spec.ranges,
        remap_frequency=remap,
        buffer_capacity=buffer,
        **spec.storage,
    )


def _dims(name: str, spec: ArchiveSpec, bins: int | list[int]) -> list[int]:
    """Return the bins of every axis; refuse what does not fit the axes or into memory."""
    dims = [bins] * len(spec.axes) if isinstance(bins, int) else list(bins)
    if len(dims) != len(spec.axes):
        raise ConfigError(
            f"archive {name}: bins must be one number, or one per axis "
            f"({', '.join(axis.name for axis in spec.axes)}); got {bins}"
        )
    _check_memory(name, spec, dims)
    return dims


def _check_memory(name: str, spec: ArchiveSpec, dims: Sequence[int]) -> None:
    """Refuse grids that would not fit into memory when full."""
    memory = _physical_memory()
    # A cell holds its solution, and in float64 objective, threshold and measures.
    cell = spec.solution_dim * np.dtype(spec.solution_dtype).itemsize + 8 * (2 + len(dims))
    cells = math.prod(dims)
    if memory is not None and spec.archives * cells * cell > memory:
        each = cells * cell / 2**30
        raise ConfigError(
            f"archive {name}: {' x '.join(map(str, dims))} = {cells:,} cells of "
            f"{spec.solution_dim:,} coordinates need {each:,.1f} GiB when full, and "
            f"{spec.archives} such archives {spec.archives * each:,.1f} GiB; this machine has "
            f"{memory / 2**30:.1f} GiB. Set archive.bins to fewer bins, or choose archive cvt or "
            "dns, whose size does not grow with the number of tasks"
        )


def _physical_memory() -> int | None:
    """Return the bytes of memory of this machine; None where the system does not say."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows, or an unknown name
        return None
    return size if size > 0 else None


def build_archives(
    factory: ArchiveFactory,
    tasks: Sequence[Task],
    measures: Sequence[Measure],
    expert_scores: np.ndarray,
    sizing: AxisSizing,
    *,
    solution_dim: int,
    solution_dtype: np.dtype,
    seeds: Sequence[int],
) -> dict[str, ArchiveBase]:
    """Build one archive per task; the axes of each are the other tasks and the own measures.

    Args:
        factory: Makes one archive from its spec.
        tasks: The K tasks.
        measures: The backend's own M measures.
        expert_scores: ``(n_experts, K)`` scores that size the axes.
        sizing: Margins and explicit ranges.
        solution_dim: Length of a solution.
        solution_dtype: dtype of solutions.
        seeds: K seeds, one per archive.

    Raises:
        ConfigError: There would be archives without any axis, an explicit range is of none, or an
            archive cannot be built, or has other axes than those of the search.
        UnsupportedError: A search cannot use the archive.
    """
    check_axes(tasks, measures)
    names = [task.name for task in tasks] + [measure.name for measure in measures]
    for name in sizing.ranges:
        if name not in names:
            raise ConfigError(
                f"axes: range of unknown task or measure '{name}'{nearest(name, names)} "
                f"Known: {', '.join(names)}."
            )
    task_axes = [
        sizing.task_axis(task, expert_scores[:, column]) for column, task in enumerate(tasks)
    ]
    own_axes = [sizing.measure_axis(measure) for measure in measures]
    archives: dict[str, ArchiveBase] = {}
    for index, (task, axis, seed) in enumerate(zip(tasks, task_axes, seeds, strict=True)):
        spec = ArchiveSpec(
            task=task.name,
            axes=(*task_axes[:index], *task_axes[index + 1 :], *own_axes),
            solution_dim=solution_dim,
            solution_dtype=solution_dtype,
            qd_score_offset=task.range[0] if np.isfinite(task.range[0]) else axis.low,
            seed=seed,
            archives=len(tasks),
        )
        with naming(f"archive of task '{task.name}' ({described(factory)})"):
            archive = factory(spec)
        check_archive(archive, spec)
        if others := [name for name, other in archives.items() if other is archive]:
            raise ConfigError(
                f"tasks '{others[0]}' and '{task.name}' got the same archive; each task needs one "
                "of its own"
            )
        archives[task.name] = archive
    return archives


def role_of(column: int, scores: np.ndarray, measures: np.ndarray) -> dict[str, np.ndarray]:
    """Return what archive number ``column`` sees of evaluated solutions.

    Args:
        column: The archive's task, as a column of ``scores``.
        scores: ``(n, K)`` scores.
        measures: ``(n, M)`` the backend's own measures.

    Returns:
        ``objective`` ``(n,)``, and ``measures`` ``(n, K - 1 + M)``: the other tasks' scores, then
        the own measures; fresh arrays.
    """
    others = np.delete(scores, column, axis=1)
    return {"objective": scores[:, column].copy(), "measures": np.hstack([others, measures])}


def check_axes(tasks: Sequence[Task], measures: Sequence[Measure]) -> None:
    """Refuse a domain whose archives would have no axis.

    Raises:
        ConfigError: No tasks, one task and no measures, or names that are not unique.
    """
    names = [task.name for task in tasks] + [measure.name for measure in measures]
    if len(set(names)) < len(names):
        raise ConfigError(f"names of tasks and measures must differ; got {', '.join(names)}")
    if not tasks:
        raise ConfigError("the backend has no tasks; quality diversity needs at least one")
    if len(tasks) == 1 and not measures:
        raise ConfigError(
            f"'{tasks[0].name}' is the only task and the backend has no measures of its own, so "
            "its archive would have no axis: add a task, or return measures (any behavior "
            "descriptor) from evaluate() and declare them in `measures`"
        )
