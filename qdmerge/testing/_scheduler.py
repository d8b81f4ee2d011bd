"""The contract of schedulers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest

from qdmerge.archives import grid
from qdmerge.guide import Slopes
from qdmerge.schedulers import Batch, TaskScheduler
from qdmerge.testing._shared import (
    TASKS,
    archive_spec,
    content,
    scores_of,
    slopes_of,
    small_space,
    tell,
    untouched_global_randomness,
)


def _remember(emitter: Any, given: list[np.ndarray]) -> None:
    """Keep the Jacobians that an emitter is told."""
    tell_dqd = emitter.tell_dqd

    def remembered(*, jacobian: np.ndarray, **told: Any) -> None:
        given.append(jacobian.copy())
        tell_dqd(jacobian=jacobian, **told)

    emitter.tell_dqd = remembered


class SchedulerContract:
    """Tests that every scheduler passes, on three tasks with pyribs' emitters."""

    def make_scheduler(
        self, archives: Mapping[str, Any], emitters: Mapping[str, Sequence[Any]]
    ) -> TaskScheduler:
        """Return a new scheduler of these archives and emitters. Override this."""
        raise NotImplementedError("override make_scheduler()")

    def scheduled(
        self, kind: Literal["gaussian", "learning", "gradients"] = "gaussian"
    ) -> TaskScheduler:
        """Return a scheduler of Gaussian emitters, or of ones that learn or follow gradients."""
        from ribs.emitters import (
            EvolutionStrategyEmitter,
            GaussianEmitter,
            GradientArborescenceEmitter,
        )

        space = small_space()
        archives = {task: grid(archive_spec(space, task)) for task in TASKS}
        emitter, size = {
            "gaussian": (GaussianEmitter, {"sigma": 0.2}),
            "learning": (EvolutionStrategyEmitter, {"sigma0": 0.2}),
            "gradients": (GradientArborescenceEmitter, {"sigma0": 0.2, "lr": 0.1}),
        }[kind]
        options: dict[str, Any] = {"x0": space.x0, "batch_size": 3, "seed": 1, **size}
        emitters = {task: [emitter(archive, **options)] for task, archive in archives.items()}
        return self.make_scheduler(archives, emitters)

    def play(
        self, scheduler: TaskScheduler, rounds: int
    ) -> list[tuple[str | None, np.ndarray, np.ndarray]]:
        """Ask and tell for some rounds; return (task, solutions, scores) of each."""
        played = []
        for _ in range(rounds):
            batch = scheduler.ask()
            scores = scores_of(batch.solutions)
            played.append((batch.task, batch.solutions, scores))
            scheduler.tell(batch, scores)
        return played

    def test_ask_and_tell(self) -> None:
        """A batch belongs to a task; telling it offers every solution to every archive."""
        scheduler = self.scheduled()
        assert scheduler.tasks == list(TASKS)
        ids = []
        for _ in range(7):
            assert scheduler.ready
            batch = scheduler.ask()
            ids.append(batch.id)
            assert batch.task in TASKS
            assert batch.solutions.shape == (len(batch), 4) == (3, 4)
            assert scheduler.out == [batch.id]
            before = {task: len(archive) for task, archive in scheduler.archives.items()}
            status = scheduler.tell(batch, scores_of(batch.solutions))
            assert list(status) == list(TASKS)
            for task, archive in scheduler.archives.items():
                assert status[task].shape == (len(batch),)
                assert (len(archive) > before[task]) == (status[task] == 2).any()
                assert len(archive) > 0
            assert scheduler.out == []
        assert len(set(ids)) == len(ids)

    def test_every_archive_sees_its_own_role(self) -> None:
        """Archive i holds the score on task i as objective, and the others' as measures."""
        scheduler = self.scheduled()
        self.play(scheduler, 5)
        for column, archive in enumerate(scheduler.archives.values()):
            data = archive.data(["solution", "objective", "measures"])
            scores = scores_of(data["solution"])
            np.testing.assert_allclose(data["objective"], scores[:, column])
            np.testing.assert_allclose(data["measures"], np.delete(scores, column, axis=1))

    def test_several_batches_out(self) -> None:
        """Batches can be out at once, and told in any order."""
        scheduler = self.scheduled()
        batches = [scheduler.ask() for _ in range(4)]
        assert scheduler.out == [batch.id for batch in batches]
        for batch in reversed(batches):
            scheduler.tell(batch, scores_of(batch.solutions))
        assert scheduler.out == []

    def test_what_learns_is_told_before_it_is_asked_again(self) -> None:
        """With evolution strategies, ``ready`` ends, and another ask is an error."""
        scheduler = self.scheduled("learning")
        out = []
        while scheduler.ready:
            out.append(scheduler.ask())
            assert len(out) <= len(TASKS), "an emitter was asked again before it was told"
        with pytest.raises(RuntimeError, match=r"\w"):
            scheduler.ask()
        scheduler.tell(out[-1], scores_of(out[-1].solutions))
        assert scheduler.ready
        assert scheduler.ask().task == out[-1].task

    def test_gradients_come_before_children(self) -> None:
        """A turn of emitters that follow gradients has two batches. The first is told with the
        Jacobian: to the emitter in its archive's order, the objective first.
        """
        scheduler = self.scheduled("gradients")
        given: list[np.ndarray] = []
        for emitters in scheduler.emitters.values():
            _remember(emitters[0], given)
        for turn in range(4):
            points = scheduler.ask()
            assert len(points) == 1
            assert all(isinstance(errand, Slopes) for errand in points.errands)
            tell(scheduler, points, scores_of(points.solutions))
            column, slopes = TASKS.index(points.task or ""), slopes_of(points.solutions)
            assert len(given) == turn + 1, "the emitter was not told its Jacobian once"
            np.testing.assert_allclose(given[-1][:, 0], slopes[:, column])
            np.testing.assert_allclose(given[-1][:, 1:], np.delete(slopes, column, axis=1))
            children = scheduler.ask()
            assert (children.task, len(children)) == (points.task, 3)
            tell(scheduler, children, scores_of(children.solutions))

    def test_a_batch_is_told_once(self) -> None:
        """What is not out is refused, and changes nothing."""
        scheduler = self.scheduled()
        batch = scheduler.ask()
        scheduler.tell(batch, scores_of(batch.solutions))
        before = {task: content(archive) for task, archive in scheduler.archives.items()}
        for wrong in (batch, Batch(99, TASKS[0], batch.solutions)):
            with pytest.raises(ValueError, match=r"\w"):
                scheduler.tell(wrong, np.ones((3, 3)))
        assert before == {task: content(archive) for task, archive in scheduler.archives.items()}

    def test_wrong_shapes_are_refused(self) -> None:
        """Scores of another shape are refused, and the batch stays out."""
        scheduler = self.scheduled()
        batch = scheduler.ask()
        for shape in ((3, 2), (2, 3), (9,)):
            with pytest.raises(ValueError, match=r"\w"):
                scheduler.tell(batch, np.ones(shape))
        assert scheduler.out == [batch.id]
        assert all(archive.empty for archive in scheduler.archives.values())

    def test_failures_enter_no_archive(self) -> None:
        """Rows that are not finite are left out; the others count."""
        scheduler = self.scheduled()
        batch = scheduler.ask()
        scores = scores_of(batch.solutions)
        scores[1, 0] = np.nan
        status = scheduler.tell(batch, scores)
        for task, archive in scheduler.archives.items():
            assert status[task][1] == 0
            stored = {x.tobytes() for x, *_ in zip(archive.data("solution"), strict=True)}
            assert batch.solutions[1].tobytes() not in stored
            assert stored

    def test_enqueued_solutions_come_next(self) -> None:
        """Solutions from elsewhere are asked for before those of emitters."""
        scheduler = self.scheduled()
        x = np.full((2, 4), 0.25)
        scheduler.enqueue(x)
        batch = scheduler.ask()
        np.testing.assert_array_equal(batch.solutions, x)
        scheduler.tell(batch, scores_of(x))
        assert len(self.play(scheduler, 1)) == 1

    def test_nothing_is_random(self) -> None:
        """Two schedulers of equal parts choose the same tasks and give the same solutions."""
        with untouched_global_randomness():
            one, two = (self.play(self.scheduled(), 12) for _ in range(2))
        assert [task for task, *_ in one] == [task for task, *_ in two]
        for (_, first, _), (_, second, _) in zip(one, two, strict=True):
            np.testing.assert_array_equal(first, second)

    def test_a_replay_resumes_it(self) -> None:
        """A new scheduler that receives the log continues as the first one does."""
        first, second = self.scheduled(), self.scheduled()
        for task, solutions, scores in self.play(first, 10):
            batch = second.ask()
            assert batch.task == task
            np.testing.assert_array_equal(batch.solutions, solutions)
            second.tell(batch, scores)
        for expected, resumed in zip(self.play(first, 6), self.play(second, 6), strict=True):
            assert resumed[0] == expected[0]
            np.testing.assert_array_equal(resumed[1], expected[1])
