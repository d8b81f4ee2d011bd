"""One pyribs archive per task, from Python and from text."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ribs.archives import (
    ArchiveBase,
    CVTArchive,
    DNSArchive,
    GridArchive,
    ProximityArchive,
    SlidingBoundariesArchive,
)

from qdmerge.archives import ArchiveSpec, Axis, AxisSizing, build_archives, grid, role_of
from qdmerge.backend import Measure, Task
from qdmerge.errors import ConfigError
from qdmerge.parts import ARCHIVES

TASKS = [Task("coding"), Task("db", range=(-math.inf, math.inf)), Task("os", range=(-1, 1))]
MEASURES = [Measure("length", (0.0, 9.0))]
SCORES = np.array([[0.4, -2.0, 0.0], [0.8, -1.0, 0.0]])


def spec(axes: int = 2) -> ArchiveSpec:
    named = tuple(Axis(f"axis{i}", 0.0, 1.0) for i in range(axes))
    return ArchiveSpec("coding", named, 3, np.dtype(np.float32), -0.5, 7)


@pytest.fixture(scope="module")
def specs() -> dict[str, ArchiveSpec]:
    """What each archive of three tasks and a measure was asked to be."""
    seen: dict[str, ArchiveSpec] = {}

    def remember(spec: ArchiveSpec) -> ArchiveBase:
        seen[spec.task] = spec
        return grid(spec)

    archives = build_archives(
        remember,
        TASKS,
        MEASURES,
        SCORES,
        AxisSizing(),
        solution_dim=3,
        solution_dtype=np.dtype(np.float32),
        seeds=[11, 12, 13],
    )
    assert list(archives) == list(seen) == ["coding", "db", "os"]
    return seen


def test_axes_are_the_other_tasks_then_the_measures(specs: dict[str, ArchiveSpec]) -> None:
    assert {task: [axis.name for axis in spec.axes] for task, spec in specs.items()} == {
        "coding": ["db", "os", "length"],
        "db": ["coding", "os", "length"],
        "os": ["coding", "db", "length"],
    }


def test_every_axis_is_sized_from_its_own_scores(specs: dict[str, ArchiveSpec]) -> None:
    expected = {"coding": (0.34, 0.92), "db": (-2.3, -0.85), "os": (-1, 1), "length": (0, 9)}
    for spec in specs.values():
        for axis in spec.axes:
            assert (axis.low, axis.high) == pytest.approx(expected[axis.name])


def test_offsets_are_the_lowest_possible_scores(specs: dict[str, ArchiveSpec]) -> None:
    """So that no elite lowers the QD score; the axis' end where the metric has none."""
    offsets = {task: spec.qd_score_offset for task, spec in specs.items()}
    assert offsets == {"coding": 0.0, "db": pytest.approx(-2.3), "os": -1.0}


def test_seeds_and_storage_reach_each_archive(specs: dict[str, ArchiveSpec]) -> None:
    assert [spec.seed for spec in specs.values()] == [11, 12, 13]
    archive = grid(specs["os"])
    assert archive.solution_dim == 3
    assert archive.dtypes["solution"] == np.float32
    assert archive.qd_score_offset == -1.0


def test_a_grid_has_fifteen_bins_by_default_or_as_many_as_told() -> None:
    assert grid(spec()).dims.tolist() == [15, 15]
    assert grid(spec(), 4).dims.tolist() == [4, 4]
    assert grid(spec(), [4, 6]).dims.tolist() == [4, 6]


@pytest.mark.parametrize("bins", [0, -1, [4], [4, 0], [4, 4, 4], []])
def test_a_grid_refuses_wrong_bins(bins: Any) -> None:
    with pytest.raises(
        ConfigError,
        match=r"axis0, axis1\); got|grid: 'bins.*or equal to 1",
    ):
        grid(spec(), bins)


@pytest.fixture
def machine_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the machine have so many bytes of memory."""

    def set_memory(size: int) -> None:
        monkeypatch.setattr(
            os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": size}.__getitem__, raising=False
        )

    return set_memory


# Four bins on two axes: 16 cells of three float32 and, in float64, objective, threshold, measures.
CELLS_OF_SPEC = 16 * (3 * 4 + 8 * 4)


def test_a_full_grid_may_take_all_memory_but_no_more(machine_of: Callable[[int], None]) -> None:
    machine_of(CELLS_OF_SPEC)
    archive = grid(spec(), 4)
    machine_of(CELLS_OF_SPEC - 1)
    with pytest.raises(ConfigError, match="4 x 4 = 16 cells of 3 coordinates need 0.0 GiB"):
        grid(spec(), 4)
    # The formula is pyribs' own: all fields of all cells.
    fields = [archive._store._fields[name] for name in ("solution", "objective", "threshold")]
    fields.append(archive._store._fields["measures"])
    assert sum(field.nbytes for field in fields) == CELLS_OF_SPEC


def test_all_archives_of_a_search_must_fit(machine_of: Callable[[int], None]) -> None:
    def build() -> dict[str, ArchiveBase]:
        return build_archives(
            grid,
            [Task(f"task{n}") for n in range(4)],
            [],
            np.array([[0.2] * 4, [0.8] * 4]),
            AxisSizing(),
            solution_dim=40_000,
            solution_dtype=np.dtype(np.float32),
            seeds=range(4),
        )

    machine_of(3 * 2**30)
    assert len(build()) == 4  # nothing is touched yet, so this takes no memory
    machine_of(2**30)  # enough for one archive, but not for all
    with pytest.raises(ConfigError) as raised:
        build()
    message = str(raised.value)
    for part in (
        "15 x 15 x 15 = 3,375 cells of 40,000 coordinates",
        "need 0.5 GiB when full, and 4 such archives 2.0 GiB; this machine has 1.0 GiB",
        "fewer bins",
        "cvt or dns",
    ):
        assert part in message


def test_a_grid_beyond_all_machines_is_refused_on_this_one() -> None:
    with pytest.raises(ConfigError, match="fewer bins"):
        grid(spec(16), 16)  # 2**64 cells: none at all, if they were counted in 64 bits


@pytest.mark.parametrize("memory", [-1, 0])
def test_a_system_that_does_not_tell_its_memory_is_believed(
    machine_of: Callable[[int], None], memory: int
) -> None:
    machine_of(memory)
    assert grid(spec(), 4).cells == 16


def test_a_system_without_sysconf_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert grid(spec(), 4).cells == 16


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-9, 0),
        (0, 0),
        (0.1999, 0),
        (0.2, 1),
        (0.4, 2),
        (0.6, 3),
        (0.7999, 3),
        (0.8, 4),
        (1, 4),
        (9, 4),
    ],
)
def test_cells_are_closed_below_and_the_ends_catch_what_is_outside(value: float, cell: int) -> None:
    """Five bins from 0 to 1: a value on an edge counts into the cell above it."""
    archive = grid(spec(1), 5)
    assert archive.index_of(np.array([[value]])).tolist() == [cell]


def test_role_of_a_column() -> None:
    scores, measures = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([[7.0], [8.0]])
    role = role_of(1, scores, measures)
    assert role["objective"].tolist() == [2, 5]
    assert role["measures"].tolist() == [[1, 3, 7], [4, 6, 8]]
    role["objective"][:] = role["measures"][:] = 0
    assert scores.all(), "a role must not share memory with the scores"


FROM_TEXT = [
    ("grid", {}, GridArchive, 225),
    ("grid", {"bins": [3, 4]}, GridArchive, 12),
    ("cvt", {"centroids": 20, "samples": 200}, CVTArchive, 20),
    ("dns", {}, DNSArchive, 100),
    ("dns", {"capacity": 7}, DNSArchive, 7),
    ("ribs.archives:SlidingBoundariesArchive", {"dims": [3, 3]}, SlidingBoundariesArchive, 9),
    ("sliding", {"bins": [3, 4], "remap": 7}, SlidingBoundariesArchive, 12),
    ("proximity", {}, ProximityArchive, None),
    ("ribs.archives:GridArchive", {"dims": [2, 5], "ranges": [[0, 2], [0, 2]]}, GridArchive, 10),
    (
        "ribs.archives:ProximityArchive",
        {"k_neighbors": 2, "novelty_threshold": 0.1, "initial_capacity": 8},
        ProximityArchive,
        None,
    ),
]


@pytest.mark.parametrize(("name", "options", "kind", "cells"), FROM_TEXT)
def test_archives_from_text(
    name: str, options: dict[str, Any], kind: type[ArchiveBase], cells: int | None
) -> None:
    archive = ARCHIVES.build(name, options, spec().context)
    assert type(archive) is kind
    assert (archive.solution_dim, archive.measure_dim) == (3, 2)
    assert archive.dtypes["solution"] == np.float32
    assert archive.qd_score_offset == pytest.approx(-0.5)
    if cells:
        assert archive.cells == cells
    if kind is CVTArchive:
        assert archive.upper_bounds.tolist() == [1, 1]
    if "ranges" in options:
        assert archive.upper_bounds.tolist() == [2, 2]  # the user's option wins


def test_a_grid_with_a_learning_rate_has_thresholds_from_the_lowest_objective_on() -> None:
    """The archive of CMA-MAE: f > t; then t becomes (1 - rate) t + rate f."""
    archive = ARCHIVES.build("grid", {"bins": 2, "learning_rate": 0.25}, spec().context)
    assert archive.threshold_min == pytest.approx(-0.5) == archive.qd_score_offset
    x, measures = np.zeros((1, 3)), np.full((1, 2), 0.1)
    assert archive.add(x, [0.5], measures)["status"] == 2
    assert archive.add(x, [-0.3], measures)["status"] == 0  # 0.75 * -0.5 + 0.25 * 0.5 = -0.25
    assert archive.add(x, [-0.2], measures)["status"] == 1
    assert archive.stats.obj_max == 0.5
    assert archive.best_elite["objective"] == 0.5
    assert archive.data("objective").tolist() == [pytest.approx(-0.2)]


def test_the_default_of_cvt_does_not_grow_with_the_axes() -> None:
    counts = {
        len(ARCHIVES.build("cvt", {"samples": 500}, spec(n).context).centroids) for n in (1, 4)
    }
    assert counts == {225}


@pytest.mark.parametrize("name", ["cvt", "dns"])
@pytest.mark.usefixtures("no_global_randomness")
def test_the_seed_decides_an_archive(name: str) -> None:
    options = {"centroids": 10, "samples": 100} if name == "cvt" else {}

    def sampled(seed: int) -> list[list[float]]:
        context = {**spec().context, "seed": seed}
        archive = ARCHIVES.build(name, options, context)
        x = np.arange(30.0).reshape(10, 3)
        archive.add(x, np.zeros(10), np.linspace(0, 1, 20).reshape(10, 2))
        return archive.sample_elites(20)["solution"].tolist()

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_a_factory_is_all_an_archive_needs(
    toy: Callable[..., Any], evolve: Callable[..., Any]
) -> None:
    from qdmerge.search import CycleQD

    def tessellated(spec: ArchiveSpec) -> CVTArchive:
        centroids = np.random.default_rng(spec.seed).uniform(size=(30, 2))
        return CVTArchive(centroids=centroids, ranges=spec.ranges, **spec.storage)

    search = evolve(CycleQD(toy(), archive=tessellated), 20)
    assert all(len(archive) > 3 for archive in search.archives.values())
