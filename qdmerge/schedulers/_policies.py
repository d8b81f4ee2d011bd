"""Schedulers that differ in which task is active next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from qdmerge.errors import ConfigError, nearest
from qdmerge.options import checked
from qdmerge.schedulers._task_scheduler import TaskScheduler

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase
    from ribs.emitters import EmitterBase


@checked
class CycleScheduler(TaskScheduler):
    """Round robin: the task of generation t is ``t // interval mod K`` (arXiv 2410.14735).

    A task whose emitters wait for results is passed over.

    Args:
        archives: Task name to archive.
        emitters: Task name to emitters.
        interval: Generations before the roles rotate.

    Raises:
        ConfigError: ``interval`` is not positive.
    """

    def __init__(
        self,
        archives: Mapping[str, ArchiveBase],
        emitters: Mapping[str, Sequence[EmitterBase]],
        interval: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        super().__init__(archives, emitters)
        self._interval = interval
        self._turns = 0

    def choose(self, ready: Sequence[str]) -> str:
        """Choose the next task in the round that is ready."""
        while self.tasks[self._turns // self._interval % len(self.tasks)] not in ready:
            self._turns += self._interval - self._turns % self._interval
        task = self.tasks[self._turns // self._interval % len(self.tasks)]
        self._turns += 1
        return task


@checked
class BanditScheduler(TaskScheduler):
    """More turns for tasks whose archives still improve: discounted UCB.

    The reward of a turn is the share of its solutions that entered the active archive; old rewards
    fade by ``discount`` per turn, since archives fill up (Garivier and Moulines 2011,
    arXiv 0805.3415).

    Args:
        archives: Task name to archive.
        emitters: Task name to emitters.
        exploration: Weight of the bonus for tasks that were active rarely.
        discount: What is left of an old reward after one more turn, in (0, 1].

    Raises:
        ConfigError: ``exploration`` is negative, or ``discount`` outside (0, 1].
    """

    def __init__(
        self,
        archives: Mapping[str, ArchiveBase],
        emitters: Mapping[str, Sequence[EmitterBase]],
        exploration: Annotated[float, Field(ge=0)] = 0.5,
        discount: Annotated[float, Field(gt=0, le=1)] = 0.95,
    ) -> None:
        super().__init__(archives, emitters)
        self._exploration = exploration
        self._discount = discount
        self._turns = dict.fromkeys(self.tasks, 0.0)
        self._rewards = dict.fromkeys(self.tasks, 0.0)

    def choose(self, ready: Sequence[str]) -> str:
        """Choose the ready task of the highest confidence bound; batches that are out count."""
        total = sum(self._turns.values())

        def bound(task: str) -> float:
            turns = self._turns[task]
            if turns == 0:
                return math.inf
            bonus = math.sqrt(math.log(max(total, 1.0)) / turns)
            return self._rewards[task] / turns + self._exploration * bonus

        # max() keeps the first of equals, so the choice never depends on hashing.
        task = max(ready, key=bound)
        for name in self.tasks:
            self._turns[name] *= self._discount
            self._rewards[name] *= self._discount
        self._turns[task] += 1
        return task

    def learn(self, task: str, improved: int, n: int) -> None:
        """Credit the share of solutions that entered the active archive."""
        self._rewards[task] += improved / max(n, 1)


class FixedScheduler(TaskScheduler):
    """One task that is always active: the paper's "no cycling" ablation.

    Args:
        archives: Task name to archive.
        emitters: Task name to emitters.
        task: The active task; None for the first one.

    Raises:
        ConfigError: Unknown task.
    """

    def __init__(
        self,
        archives: Mapping[str, ArchiveBase],
        emitters: Mapping[str, Sequence[EmitterBase]],
        task: str | None = None,
    ) -> None:
        super().__init__(archives, emitters)
        if task is not None and task not in self.tasks:
            raise ConfigError(
                f"FixedScheduler: unknown task '{task}'{nearest(task, self.tasks)} "
                f"Tasks: {', '.join(self.tasks)}"
            )
        self._task = task or self.tasks[0]

    def _candidates(self) -> list[str]:
        return [self._task]

    def choose(self, ready: Sequence[str]) -> str:
        """Choose the fixed task."""
        return self._task
