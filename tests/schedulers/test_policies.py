"""Which task is active next."""

from __future__ import annotations

import numpy as np
import pytest

from qdmerge.errors import ConfigError
from qdmerge.schedulers import BanditScheduler, CycleScheduler, FixedScheduler, TaskScheduler
from tests.schedulers.conftest import TASKS, MakeParts, Parts


def active(scheduler: TaskScheduler, parts: Parts, generations: int) -> list[str | None]:
    tasks = []
    for _ in range(generations):
        batch = scheduler.ask()
        scheduler.tell(batch, parts.scores(batch.solutions))
        tasks.append(batch.task)
    return tasks


@pytest.mark.parametrize("interval", [1, 2, 3])
def test_cycle_rotates_every_interval(make_parts: MakeParts, interval: int) -> None:
    """The active task of generation t is t // interval mod K."""
    parts = make_parts()
    scheduler = CycleScheduler(parts.archives, parts.emitters, interval)
    expected = [TASKS[t // interval % 3] for t in range(20)]
    assert active(scheduler, parts, 20) == expected


def test_cycle_passes_over_a_task_that_waits(make_parts: MakeParts) -> None:
    parts = make_parts("g")
    parts.emitters["b"] = make_parts("e").emitters["b"]
    scheduler = CycleScheduler(parts.archives, parts.emitters)
    assert [scheduler.ask().task for _ in range(7)] == ["a", "b", "c", "a", "c", "a", "c"]


def test_cycle_with_interval_passes_over_the_rest_of_a_waiting_task_s_turns(
    make_parts: MakeParts,
) -> None:
    parts = make_parts("e")
    scheduler = CycleScheduler(parts.archives, parts.emitters, interval=2)
    assert [scheduler.ask().task for _ in range(3)] == ["a", "b", "c"]


@pytest.mark.parametrize("interval", [0, -1])
def test_cycle_refuses_its_interval(make_parts: MakeParts, interval: int) -> None:
    parts = make_parts()
    with pytest.raises(ConfigError, match="'interval': Input should be greater"):
        CycleScheduler(parts.archives, parts.emitters, interval)


def test_fixed_keeps_one_task_active_but_fills_all_archives(make_parts: MakeParts) -> None:
    parts = make_parts()
    assert active(FixedScheduler(parts.archives, parts.emitters), parts, 5) == ["a"] * 5
    assert active(FixedScheduler(parts.archives, parts.emitters, "c"), parts, 5) == ["c"] * 5
    assert not any(archive.empty for archive in parts.archives.values())


def test_fixed_waits_for_its_own_task_only(make_parts: MakeParts) -> None:
    parts = make_parts("e")
    scheduler = FixedScheduler(parts.archives, parts.emitters, "b")
    batch = scheduler.ask()
    assert not scheduler.ready
    with pytest.raises(RuntimeError, match="every emitter waits"):
        scheduler.ask()
    scheduler.tell(batch, parts.scores(batch.solutions))
    assert scheduler.ready


def test_fixed_refuses_an_unknown_task(make_parts: MakeParts) -> None:
    parts = make_parts(tasks=("coding", "db"))
    with pytest.raises(ConfigError, match="'codng'; did you mean 'coding'\\? Tasks: coding, db"):
        FixedScheduler(parts.archives, parts.emitters, "codng")


def turns(parts: Parts, improving: str, generations: int, **options: float) -> dict[str, int]:
    """Turns of each task when only one task's solutions ever enter its archive."""
    scheduler = BanditScheduler(parts.archives, parts.emitters, **options)
    scheduler.offer(np.zeros((1, 4)), np.full((1, 3), 0.99))
    counts = dict.fromkeys(TASKS, 0)
    for generation in range(generations):
        batch = scheduler.ask()
        assert batch.task is not None
        counts[batch.task] += 1
        scores = np.full((len(batch), 3), 0.98)
        if batch.task == improving:
            scores[:, TASKS.index(improving)] = 1 + generation
        scheduler.tell(batch, scores)
    return counts


@pytest.mark.parametrize("improving", TASKS)
def test_bandit_gives_more_turns_to_the_task_that_improves(
    make_parts: MakeParts, improving: str
) -> None:
    counts = turns(make_parts(), improving, 60, exploration=0.2)
    others = [n for task, n in counts.items() if task != improving]
    assert counts[improving] > 2 * max(others)
    assert min(others) >= 2, "the others must be looked at again now and then"


def test_bandit_without_reward_treats_tasks_alike(make_parts: MakeParts) -> None:
    counts = turns(make_parts(), "none", 60)
    assert max(counts.values()) - min(counts.values()) <= 3


def test_bandit_notices_when_another_task_starts_to_improve(make_parts: MakeParts) -> None:
    parts = make_parts()
    scheduler = BanditScheduler(parts.archives, parts.emitters, exploration=0.2, discount=0.8)
    scheduler.offer(np.zeros((1, 4)), np.full((1, 3), 0.99))
    late = []
    for generation in range(120):
        improving = "a" if generation < 60 else "c"
        batch = scheduler.ask()
        scores = np.full((len(batch), 3), 0.98)
        if batch.task == improving:
            scores[:, TASKS.index(improving)] = 1 + generation
        scheduler.tell(batch, scores)
        late.append(batch.task)
    assert late[20:60].count("a") > 20
    assert late[80:].count("c") > 20


def test_bandit_tries_every_task_first_and_counts_batches_that_are_out(
    make_parts: MakeParts,
) -> None:
    parts = make_parts()
    scheduler = BanditScheduler(parts.archives, parts.emitters)
    assert [scheduler.ask().task for _ in range(3)] == list(TASKS)
    six = [scheduler.ask().task for _ in range(6)]
    assert {task: six.count(task) for task in TASKS} == dict.fromkeys(TASKS, 2)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"exploration": -1}, "exploration"), ({"discount": 0}, "disc"), ({"discount": 1.1}, "disc")],
)
def test_bandit_refuses_wrong_options(make_parts: MakeParts, options: dict, named: str) -> None:
    parts = make_parts()
    with pytest.raises(ConfigError, match=named):
        BanditScheduler(parts.archives, parts.emitters, **options)
