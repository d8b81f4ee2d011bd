"""Progress on the terminal: a live view, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from qdmerge.runs import Listener, RunProgress, Stats

_PLAIN_SECONDS = 10.0


class _Clock:
    """Estimates the time left of the current stage from its pace in this session."""

    def __init__(self) -> None:
        self._stage = ""
        self._began = 0.0
        self._done_before = 0

    def left(self, progress: RunProgress) -> str:
        now = time.monotonic()
        if progress.stage != self._stage:
            self._stage, self._began = progress.stage, now
            self._done_before = progress.done
        done = progress.done - self._done_before
        if done < 1 or not progress.total:
            return ""
        seconds = (now - self._began) / done * max(progress.total - progress.done, 0)
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}:{rest:02d} left"


def _line(progress: RunProgress, left: str) -> str:
    """One line about a progress."""
    parts = [progress.stage]
    if progress.total:
        parts.append(f"{progress.done}/{progress.total}")
    if progress.task:
        parts.append(f"active {progress.task}")
    if progress.stats:
        best = " ".join(f"{task} {_number(s['best'])}" for task, s in progress.stats.items())
        total = sum(float(s["qd_score"] or 0) for s in progress.stats.values())
        parts += [f"best {best}", f"QD score {total:.2f}"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if left:
        parts.append(left)
    return "  ".join(parts)


def _number(value: float | int | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _view(progress: RunProgress, left: str) -> Group:
    """The live view of a progress."""
    head = Table.grid(padding=(0, 2))
    count = f"{progress.done}/{progress.total}" if progress.total else ""
    bar = ProgressBar(total=progress.total or 1, completed=progress.done, width=30)
    failed = f"[red]{progress.failed} failed[/]" if progress.failed else ""
    head.add_row(f"[bold]{progress.stage}[/]", bar, count, left, failed)
    if not progress.stats:
        return Group(head)
    return Group(head, stats_table(progress.stats, progress.task))


def stats_table(stats: Stats, active: str | None = None) -> Table:
    """The archives' statistics, a row per task; the active one is marked."""
    table = Table(box=None, padding=(0, 2))
    for column in ("task", "best", "elites", "coverage", "QD score"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for task, row in stats.items():
        coverage = row["coverage"]
        table.add_row(
            f"{'>' if task == active else ' '} {task}",
            _number(row["best"]),
            str(row["elites"]),
            "-" if coverage is None else f"{coverage:.1%}",
            _number(row["qd_score"]),
        )
    return table


@contextmanager
def show_progress(console: Console) -> Iterator[Listener]:
    """A listener that shows a run's progress while the context is open.

    Args:
        console: Where to; a live view on a terminal, else a line per stage and every few seconds.
    """
    clock = _Clock()
    if console.is_terminal:
        with Live(Text(), console=console, refresh_per_second=4) as live:
            yield lambda progress: live.update(_view(progress, clock.left(progress)))
        return

    shown_stage, shown_at = "", 0.0

    def print_line(progress: RunProgress) -> None:
        nonlocal shown_stage, shown_at
        now = time.monotonic()
        complete = bool(progress.total) and progress.done >= progress.total
        due = now - shown_at >= _PLAIN_SECONDS
        left = clock.left(progress)
        if progress.stage != shown_stage or due or complete:
            shown_stage, shown_at = progress.stage, now
            console.print(_line(progress, left), highlight=False, soft_wrap=True)

    yield print_line
