"""The progress of a comparison."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from qdmerge.compare._plan import PlannedRun
from qdmerge.runs import Listener, Progress


class Counter:
    """Sums the progress of all runs, which report from threads of their own.

    Args:
        planned: All runs.
        listener: Is told of the sum.
    """

    def __init__(self, planned: Sequence[PlannedRun], listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._total = sum(run.config.evaluations for run in planned)
        self._runs = len(planned)
        self._ended: set[str] = set()
        self._done: dict[str, int] = {}

    def of(self, planned: PlannedRun) -> Listener:
        """Hears one run."""

        def hear(progress: Progress) -> None:
            if progress.stage == "search":
                with self._lock:
                    self._done[planned.label] = progress.done
                    self._tell()

        return hear

    def ended(self, planned: PlannedRun) -> None:
        """Counts a run as ended, well or not."""
        with self._lock:
            self._ended.add(planned.label)
            self._done[planned.label] = planned.config.evaluations
            self._tell()

    def _tell(self) -> None:
        stage = f"{len(self._ended)} of {self._runs} runs"
        done = min(sum(self._done.values()), self._total)
        self._listener(Progress(stage, done, self._total))
