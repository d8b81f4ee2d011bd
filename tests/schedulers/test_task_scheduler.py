"""Ask and tell over K archives: order, roles, several batches at once, failures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdmerge.schedulers import Batch, CycleScheduler, TaskScheduler
from tests.schedulers.conftest import DIM, TASKS, MakeParts, Parts, grid


def scheduled(parts: Parts) -> CycleScheduler:
    return CycleScheduler(parts.archives, parts.emitters)


def tell(scheduler: TaskScheduler, parts: Parts, batch: Batch) -> dict[str, np.ndarray]:
    x = batch.solutions
    return scheduler.tell(batch, parts.scores(x), parts.measures(x) if parts.n_measures else None)


def content(archive: Any) -> list[tuple[int, bytes, float, tuple[float, ...]]]:
    """What an archive holds, in an order of its own."""
    data = archive.data()
    return sorted(
        (int(i), x.tobytes(), float(f), tuple(m))
        for i, x, f, m in zip(
            data["index"], data["solution"], data["objective"], data["measures"], strict=True
        )
    )


def test_a_batch_says_what_it_is(make_parts: MakeParts) -> None:
    parts = make_parts("gg", batch_size=3)
    scheduler = scheduled(parts)
    batches = [scheduler.ask() for _ in range(4)]
    assert [batch.id for batch in batches] == [0, 1, 2, 3]
    assert [batch.task for batch in batches] == ["a", "b", "c", "a"]
    assert scheduler.tasks == ["a", "b", "c"]
    for batch in batches:
        assert len(batch) == 6
        assert batch.solutions.shape == (6, DIM)
        assert batch.parents == (None,) * 6
    assert scheduler.out == [0, 1, 2, 3]


def test_parents_come_with_the_solutions_of_emitters_that_tell_them(make_parts: MakeParts) -> None:
    from qdmerge.emitters import MergeEmitter
    from qdmerge.operators import EliteSelection, LinearCrossover, NoMutation

    parts = make_parts("g", batch_size=2)
    parts.archives["a"].add(np.eye(2, DIM), [0.1, 0.2], [[0.1, 0.1], [0.9, 0.9]])
    merge = MergeEmitter(
        parts.archives["a"],
        selection=EliteSelection(),
        crossover=LinearCrossover(0),
        mutation=NoMutation(),
        batch_size=3,
    )
    parts.emitters["a"].append(merge)
    batch = scheduled(parts).ask()
    assert batch.parents[:2] == (None, None)
    for child, made_from in zip(batch.solutions[2:], batch.parents[2:], strict=True):
        assert made_from is not None
        np.testing.assert_array_equal(child, made_from.mean(axis=0))


@pytest.mark.parametrize("n_measures", [0, 2])
def test_every_archive_is_offered_every_child_in_its_own_role(
    make_parts: MakeParts, n_measures: int
) -> None:
    """Against archives filled by hand: task k's score is the quality, the rest are measures."""
    parts = make_parts("gg", n_measures=n_measures)
    scheduler = scheduled(parts)
    expected = {task: grid(2 + n_measures) for task in TASKS}
    for _ in range(12):
        batch = scheduler.ask()
        status = tell(scheduler, parts, batch)
        scores, measures = parts.scores(batch.solutions), parts.measures(batch.solutions)
        for task, others, k in (("a", [1, 2], 0), ("b", [0, 2], 1), ("c", [0, 1], 2)):
            axes = [scores[:, others[0]], scores[:, others[1]], *measures.T]
            info = expected[task].add(batch.solutions, scores[:, k], np.stack(axes, axis=1))
            np.testing.assert_array_equal(status[task], info["status"])
    for task in TASKS:
        assert content(scheduler.archives[task]) == content(expected[task])
        assert len(expected[task]) > 5


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(order=st.permutations(range(6)))
def test_batches_may_be_told_in_any_order(make_parts: MakeParts, order: list[int]) -> None:
    parts = make_parts("g", batch_size=2)
    scheduler = scheduled(parts)
    batches = [scheduler.ask() for _ in order]
    for n, position in enumerate(order):
        tell(scheduler, parts, batches[position])
        assert scheduler.out == sorted(order[n + 1 :])
    expected = grid(2)
    x = np.concatenate([batches[position].solutions for position in order])
    scores = parts.scores(x)
    expected.add(x, scores[:, 0], scores[:, 1:])
    assert content(scheduler.archives["a"]) == content(expected)


def test_telling_twice_or_what_was_never_asked_for(make_parts: MakeParts) -> None:
    parts = make_parts("g")
    scheduler = scheduled(parts)
    batch, out = scheduler.ask(), scheduler.ask()
    tell(scheduler, parts, batch)
    before = content(parts.archives["a"])
    with pytest.raises(ValueError, match=r"batch 0 is not out: it was told already.*\(out: \[1\]"):
        tell(scheduler, parts, batch)
    with pytest.raises(ValueError, match="batch 7 is not out"):
        tell(scheduler, parts, Batch(7, "a", out.solutions))
    assert content(parts.archives["a"]) == before


@pytest.mark.parametrize(
    ("scores", "measures", "message"),
    [
        (
            (4, 2),
            (4, 1),
            r"scores of shape \(4, 2\); expected \(models, tasks\) = \(4, 3\)",
        ),
        ((3, 3), (3, 1), r"shape \(3, 3\); expected .* = \(4, 3\)"),
        ((4, 3), None, r"measures of shape \(4, 0\); expected .* = \(4, 1\)"),
        ((4, 3), (4, 2), r"measures of shape \(4, 2\)"),
        ((12,), (4, 1), r"scores of shape \(12,\)"),
    ],
)
def test_wrong_shapes_change_nothing(
    make_parts: MakeParts, scores: tuple, measures: tuple | None, message: str
) -> None:
    parts = make_parts("g", n_measures=1)
    scheduler = scheduled(parts)
    batch = scheduler.ask()
    with pytest.raises(ValueError, match=message):
        scheduler.tell(batch, np.zeros(scores), None if measures is None else np.zeros(measures))
    assert all(archive.empty for archive in parts.archives.values())
    tell(scheduler, parts, batch)  # the batch is still out
    assert not parts.archives["a"].empty


def test_an_emitter_that_learns_is_not_asked_again_before_it_was_told(
    make_parts: MakeParts,
) -> None:
    parts = make_parts("ge")
    scheduler = scheduled(parts)
    batches = {}
    for _ in TASKS:
        assert scheduler.ready
        batch = scheduler.ask()
        batches[batch.task] = batch
    assert list(batches) == list(TASKS)
    assert not scheduler.ready
    with pytest.raises(RuntimeError, match=r"every emitter waits.*out: \[0, 1, 2\].*`ready`"):
        scheduler.ask()
    tell(scheduler, parts, batches["b"])
    assert scheduler.ready
    assert scheduler.ask().task == "b"
    assert not scheduler.ready


def test_emitters_that_do_not_learn_are_always_ready(make_parts: MakeParts) -> None:
    scheduler = scheduled(make_parts("gg"))
    for _ in range(20):
        assert scheduler.ready
        scheduler.ask()


def test_offered_solutions_enter_every_archive_and_nobody_is_told(make_parts: MakeParts) -> None:
    parts = make_parts("e")
    scheduler = scheduled(parts)
    x = np.eye(3, DIM)
    scheduler.offer(x, np.array([[1, 0.1, 0.2], [0.1, 1, 0.3], [np.nan, 0.2, 1]]))
    assert [len(archive) for archive in parts.archives.values()] == [2, 2, 2]
    assert [emitter.itrs for listed in parts.emitters.values() for emitter in listed] == [0, 0, 0]
    assert scheduler.out == []
    with pytest.raises(ValueError, match="got scores of shape"):
        scheduler.offer(x, np.zeros((3, 2)))


FAILURES = {
    "some": lambda g: np.array([0, 3]),
    "all": lambda g: np.arange(8),
    "all at first": lambda g: np.arange(8 if g < 3 else 0),
    "one emitter's": lambda g: np.arange(4, 8),
    "inf": lambda g: np.array([5]),
}


@pytest.mark.parametrize("failing", FAILURES)
@pytest.mark.parametrize("rule", ["filter", "mu"])
def test_failures_enter_no_archive_and_strategies_go_on(
    make_parts: MakeParts, failing: str, rule: str
) -> None:
    parts = make_parts("ee", n_measures=1)
    for listed in parts.emitters.values():
        for emitter in listed:
            emitter._selection_rule = rule
    scheduler = scheduled(parts)
    seen, failed = set(), set()
    for generation in range(15):
        batch = scheduler.ask()
        scores, measures = parts.scores(batch.solutions), parts.measures(batch.solutions)
        rows = FAILURES[failing](generation)
        bad = np.inf if failing == "inf" else np.nan
        (measures if generation % 2 else scores)[rows, 0] = bad
        status = scheduler.tell(batch, scores, measures)
        for listed_status in status.values():
            assert listed_status.shape == (8,)
            assert not listed_status[rows].any()
        for row, x in enumerate(batch.solutions):
            (failed if row in rows else seen).add(x.tobytes())
    stored = {x.tobytes() for a in parts.archives.values() for x in a.data("solution")}
    assert not stored & failed
    assert stored <= seen
    assert bool(stored) == (failing != "all")
    for task, archive in parts.archives.items():
        assert np.isfinite(archive.data("objective")).all()
        for emitter in parts.emitters[task]:
            assert np.isfinite(emitter._opt.mean).all()
    if failing == "some":
        assert all(emitter.itrs == 5 for listed in parts.emitters.values() for emitter in listed)


def test_a_strategy_ranks_failures_last(make_parts: MakeParts) -> None:
    """Below what was not added; its objective is the batch's worst, so that nothing is NaN."""
    seen = []
    parts = make_parts("e", tasks=("a", "b"))
    parts.emitters["a"][0]._ranker.rank = lambda emitter, archive, data, add_info: (
        seen.append((data, add_info)) or (np.arange(4), add_info["value"])
    )
    scheduler = scheduled(parts)
    scheduler.offer(np.zeros((1, DIM)), np.array([[-5.0, 0.5]]))
    batch = scheduler.ask()
    scores = np.array([[-1.0, 0.5], [-2.0, 0.5], [np.nan, 0.5], [-9.0, 0.5]])
    scheduler.tell(batch, scores)
    data, info = seen[0]
    assert info["status"].tolist() == [1, 1, 0, 0]
    assert info["value"][2] < info["value"][[0, 1, 3]].min()
    assert data["objective"].tolist() == [-1, -2, -9, -9]
    assert np.isnan(scores[2, 0]), "the caller's scores must not change"


def test_emitters_are_told_their_own_solutions_in_their_archive_s_role(
    make_parts: MakeParts,
) -> None:
    parts = make_parts("ee", n_measures=1)
    told: list[dict[str, Any]] = []
    second = parts.emitters["b"][1]
    second._ranker.rank = lambda emitter, archive, data, add_info: (
        told.append(data) or (np.arange(4), add_info["value"])
    )
    scheduler = scheduled(parts)
    batches = [scheduler.ask() for _ in TASKS]
    for batch in batches:
        tell(scheduler, parts, batch)
    x = batches[1].solutions[4:]
    scores = parts.scores(x)
    (data,) = told
    np.testing.assert_array_equal(data["solution"], x)
    np.testing.assert_array_equal(data["objective"], scores[:, 1])
    expected = np.column_stack([scores[:, 0], scores[:, 2], parts.measures(x)])
    np.testing.assert_array_equal(data["measures"], expected)


def test_archives_that_do_not_tell_improvements_serve_strategies(make_parts: MakeParts) -> None:
    from ribs.archives import DNSArchive
    from ribs.emitters import EvolutionStrategyEmitter

    archives = {
        task: DNSArchive(solution_dim=DIM, measure_dim=2, capacity=9, k_neighbors=2)
        for task in TASKS
    }
    emitters = {
        task: [EvolutionStrategyEmitter(archive, x0=np.zeros(DIM), sigma0=0.1, batch_size=5)]
        for task, archive in archives.items()
    }
    parts = make_parts("g")
    scheduler = CycleScheduler(archives, emitters)
    for generation in range(12):
        batch = scheduler.ask()
        scores = parts.scores(batch.solutions)
        if generation % 4 == 3:
            scores[:] = np.nan
        scheduler.tell(batch, scores)
    assert all(len(archive) == 9 for archive in archives.values())


def test_an_emitter_listed_twice_is_refused(make_parts: MakeParts) -> None:
    parts = make_parts("g")
    twice = {"a": parts.emitters["a"] * 2, "b": parts.emitters["b"], "c": parts.emitters["c"]}
    with pytest.raises(ValueError, match="same emitter is listed twice"):
        CycleScheduler(parts.archives, twice)
    shared = dict.fromkeys(TASKS, parts.emitters["a"])
    with pytest.raises(ValueError, match="same emitter is listed twice"):
        CycleScheduler(parts.archives, shared)


def test_archives_and_emitters_must_be_of_the_same_tasks(make_parts: MakeParts) -> None:
    parts = make_parts("g")
    for emitters in (
        {"a": parts.emitters["a"]},
        dict(reversed(parts.emitters.items())),
    ):
        with pytest.raises(ValueError, match=r"archives are of tasks \['a', 'b', 'c'\]"):
            CycleScheduler(parts.archives, emitters)
    with pytest.raises(ValueError, match="task 'b' has no emitter"):
        CycleScheduler(parts.archives, {**parts.emitters, "b": []})


def test_where_all_failed_a_strategy_is_told_the_archive_s_worst(make_parts: MakeParts) -> None:
    """Scores may all lie below 0, where 0 would be the best of all."""
    seen = []
    parts = make_parts("e", tasks=("a", "b"))
    parts.emitters["a"][0]._ranker.rank = lambda emitter, archive, data, add_info: (
        seen.append(data) or (np.arange(4), add_info["value"])
    )
    scheduler = scheduled(parts)
    scheduler.offer(np.zeros((2, DIM)), np.array([[-5.0, 0.5], [-7.0, 0.1]]))
    scheduler.tell(scheduler.ask(), np.full((4, 2), np.nan))
    assert seen[0]["objective"].tolist() == [-7] * 4


def test_enqueued_solutions_come_next_and_are_told_to_no_emitter(make_parts: MakeParts) -> None:
    parts, plain = make_parts("e"), scheduled(make_parts("e"))
    scheduler = scheduled(parts)
    elsewhere = np.random.default_rng(0).normal(size=(3, DIM))
    scheduler.enqueue(elsewhere)
    batch = scheduler.ask()
    assert batch.id == 0
    assert np.array_equal(batch.solutions, elsewhere)
    # The emitters do not notice: they are asked as if nothing had been.
    assert np.array_equal(scheduler.ask().solutions, plain.ask().solutions)
    status = scheduler.tell(batch, np.tile([[0.5, 0.6, 0.7]], (3, 1)))
    assert (status["a"] > 0).any()
    assert all(emitter.itrs == 0 for listed in parts.emitters.values() for emitter in listed)


def test_items_reach_the_emitters_that_use_them(make_parts: MakeParts) -> None:
    parts = make_parts("gg", batch_size=2)
    told: list[Any] = []
    second = parts.emitters["a"][1]
    second.uses_items = True
    second.tell = lambda *args, items, **fields: told.append(items)
    scheduler = scheduled(parts)
    items = [{"a": np.array([float(n)])} for n in range(4)]
    scheduler.tell(scheduler.ask(), np.full((4, 3), 0.5), items=items)
    assert told == [items[2:]]
    for _ in range(2):
        scheduler.tell(scheduler.ask(), np.full((4, 3), 0.5))
    scheduler.tell(scheduler.ask(), np.full((4, 3), 0.5))
    assert told[1] == [None, None]
