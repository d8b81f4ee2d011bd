"""The contract of emitters."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from qdmerge.archives import grid
from qdmerge.emitters import EmitterSpec
from qdmerge.guide import Slopes
from qdmerge.schedulers import FixedScheduler, follows_gradients, learns
from qdmerge.spaces import Space
from qdmerge.testing._shared import (
    TASKS,
    archive_spec,
    scores_of,
    slopes_of,
    small_space,
    tell,
    untouched_global_randomness,
)

Rounds = list[tuple[np.ndarray, np.ndarray]]


class EmitterContract:
    """Tests that every emitter passes, on a grid that holds the experts.

    Attributes:
        draws: Whether the seed decides its solutions; False for one without randomness.
    """

    draws: ClassVar[bool] = True

    def make_emitter(self, archive: Any, spec: EmitterSpec) -> Any:
        """Return a new emitter, as an ``EmitterFactory``. Override this."""
        raise NotImplementedError("override make_emitter()")

    def make_space(self) -> Space:
        """Return the space to emit in; a bounded vector space by default."""
        return small_space()

    def scheduled(self, seed: int = 1) -> tuple[FixedScheduler, Any]:
        """Return a scheduler of three tasks whose archives hold the experts, and the emitter."""
        space = self.make_space()
        archives = {task: grid(archive_spec(space, task)) for task in TASKS}
        emitters = {
            task: [self.make_emitter(archives[task], EmitterSpec(task, task, space, 2, seed))]
            for task in TASKS
        }
        scheduler = FixedScheduler(archives, emitters)
        known = np.stack([space.seeds[name] for name in space.experts or space.seeds])
        scheduler.offer(known, scores_of(known))
        return scheduler, emitters[TASKS[0]][0]

    def play(self, scheduler: FixedScheduler, rounds: int) -> Rounds:
        """Ask and tell for some rounds; return (solutions, scores) of each."""
        played = []
        for _ in range(rounds):
            batch = scheduler.ask()
            played.append((batch.solutions.copy(), scores_of(batch.solutions)))
            tell(scheduler, batch, played[-1][1])
        return played

    def test_solutions_fit_the_space(self) -> None:
        """``ask`` gives finite solutions of the space's dtype, within its bounds."""
        scheduler, emitter = self.scheduled()
        space = self.make_space()
        for solutions, _ in self.play(scheduler, 6):
            assert solutions.ndim == 2
            assert solutions.shape[1] == space.dim
            assert len(solutions) >= 1
            assert solutions.dtype == space.dtype
            assert np.isfinite(solutions).all()
            assert (solutions >= space.lower_bounds).all()
            assert (solutions <= space.upper_bounds).all()
        assert emitter.batch_size >= 1

    def test_the_seed_decides_everything(self) -> None:
        """The same seed gives the same solutions; another one gives others."""
        with untouched_global_randomness():
            one, two, other = (self.play(self.scheduled(seed)[0], 4) for seed in (1, 1, 2))
        for (first, _), (second, _) in zip(one, two, strict=True):
            np.testing.assert_array_equal(first, second)
        if self.draws:
            assert any(
                a.shape != b.shape or (a != b).any()
                for (a, _), (b, _) in zip(one, other, strict=True)
            ), "the seed of the spec is not used"

    def test_a_batch_is_the_caller_s(self) -> None:
        """Solutions that were given do not change afterwards."""
        scheduler, emitter = self.scheduled()
        given: list[tuple[np.ndarray, np.ndarray]] = []
        ask = emitter.ask

        def remembered() -> np.ndarray:
            solutions = ask()
            given.append((solutions, solutions.copy()))
            return solutions

        emitter.ask = remembered
        self.play(scheduler, 4)
        for solutions, before in given:
            np.testing.assert_array_equal(solutions, before)

    def test_several_batches_out(self) -> None:
        """An emitter that neither learns nor follows gradients is asked again before it is told;
        others must wait.
        """
        scheduler, emitter = self.scheduled()
        if learns(emitter):
            scheduler.ask()
            assert not scheduler.ready
            return
        batches = [scheduler.ask() for _ in range(3)]
        if self.draws:
            assert len({batch.solutions.tobytes() for batch in batches}) == 3
        for batch in reversed(batches):
            tell(scheduler, batch, scores_of(batch.solutions))
        assert len(self.play(scheduler, 1)) == 1

    def test_a_replay_resumes_it(self) -> None:
        """A new emitter that is asked and told the same continues as the first one would.

        This is how runs resume: from the event log, with no state of an emitter kept.
        """
        first, second = self.scheduled()[0], self.scheduled()[0]
        for solutions, scores in self.play(first, 5):
            batch = second.ask()
            np.testing.assert_array_equal(batch.solutions, solutions)
            tell(second, batch, scores)
        for (expected, _), (solutions, _) in zip(
            self.play(first, 3), self.play(second, 3), strict=True
        ):
            np.testing.assert_array_equal(solutions, expected)

    def test_failures_are_survived(self) -> None:
        """After batches that failed, in part or whole, it gives finite solutions."""
        scheduler, _ = self.scheduled()
        for failed in (slice(0, 1), slice(0, 1), slice(None), slice(None), slice(0, 0)):
            batch = scheduler.ask()
            scores = scores_of(batch.solutions)
            scores[failed] = np.nan
            tell(scheduler, batch, scores)
        for solutions, _ in self.play(scheduler, 2):
            assert np.isfinite(solutions).all()

    def test_parents_belong_to_children(self) -> None:
        """``parents``, if there are any, are ``(n, p, dim)`` of the last children, or None."""
        scheduler, emitter = self.scheduled()
        self.play(scheduler, 1)
        parents = getattr(emitter, "parents", None)
        if parents is None:
            pytest.skip("the emitter names no parents")
        n, _, dim = np.shape(parents)
        assert (n, dim) == scheduler.ask().solutions.shape

    def test_gradients_come_before_children(self) -> None:
        """What ``ask_dqd`` gives is told with Jacobians first; they decide what ``ask`` gives."""
        scheduler, emitter = self.scheduled()
        if not follows_gradients(emitter):
            pytest.skip("the emitter follows no gradients")
        mirrored, _ = self.scheduled()
        points, others = scheduler.ask(), mirrored.ask()
        assert len(points) >= 1
        assert all(isinstance(errand, Slopes) for errand in points.errands)
        np.testing.assert_array_equal(points.solutions, others.solutions)
        tell(scheduler, points, scores_of(points.solutions))
        slopes = -slopes_of(others.solutions)
        mirrored.tell(others, scores_of(others.solutions), jacobians=slopes)
        children = scheduler.ask()
        assert not any(isinstance(errand, Slopes) for errand in children.errands)
        assert (children.solutions != mirrored.ask().solutions).any(), "gradients change nothing"
