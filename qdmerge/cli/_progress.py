"""Progress on the terminal: a live view, or plain lines where there is no terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from qdmerge.runs import Listener, RunProgress
    from qdmerge.search import Stats

_PLAIN_SECONDS = 10.0
"""Seconds between two plain lines of one stage."""


class _Stage:
    """The stage under way as a task of rich's progress, which estimates the time left."""

    def __init__(self) -> None:
        self._bars = Bars(
            TextColumn("[bold]{task.description}[/]"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[left]}"),
            TextColumn("[red]{task.fields[failed]}[/]"),
            auto_refresh=False,
            speed_estimate_period=math.inf,
        )

    def update(self, progress: RunProgress) -> str:
        """Move to a progress and return the time left, "" if unknown; a new stage starts anew."""
        bars = self._bars
        if not bars.tasks or bars.tasks[0].description != progress.stage:
            for task in bars.tasks:
                bars.remove_task(task.id)
            bars.add_task(progress.stage, completed=progress.done, count="", left="", failed="")
        (task,) = bars.tasks
        bars.update(task.id, completed=progress.done, total=progress.total or None)
        left = ""
        if task.speed and task.time_remaining is not None:
            minutes, seconds = divmod(round(task.time_remaining), 60)
            left = f"{minutes}:{seconds:02d} left"
        count = f"{progress.done}/{progress.total}" if progress.total else ""
        failed = f"{progress.failed} failed" if progress.failed else ""
        bars.update(task.id, count=count, left=left, failed=failed)
        return left

    def view(self, progress: RunProgress) -> Group:
        """Return the live view of a progress."""
        self.update(progress)
        head = self._bars.get_renderable()
        if not progress.stats:
            return Group(head)
        return Group(head, stats_table(progress.stats, progress.task))


def _line(progress: RunProgress, left: str) -> str:
    """Describe a progress in one line."""
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


def stats_table(stats: Stats, active: str | None = None) -> Table:
    """Return the archives' statistics, a row per task; the active one is marked."""
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
    """Show the progress of a run, or of anything else, while the context is open.

    Args:
        console: A live view on a terminal, else a line per stage and every few seconds.

    Returns:
        A context manager of the listener to call with each :class:`~qdmerge.runs.RunProgress`.
    """
    stage = _Stage()
    if console.is_terminal:
        with Live(Text(), console=console, refresh_per_second=4) as live:
            yield lambda progress: live.update(stage.view(progress))
        return

    shown_stage, shown_at = "", 0.0

    def print_line(progress: RunProgress) -> None:
        nonlocal shown_stage, shown_at
        now = time.monotonic()
        complete = bool(progress.total) and progress.done >= progress.total
        due = now - shown_at >= _PLAIN_SECONDS
        left = stage.update(progress)
        if progress.stage != shown_stage or due or complete:
            shown_stage, shown_at = progress.stage, now
            console.print(_line(progress, left), highlight=False, soft_wrap=True)

    yield print_line
