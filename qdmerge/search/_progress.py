"""A bar on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int | None) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Show evaluations and the best score of each task while the context is open.

    Args:
        total: All evaluations; None to show nothing.

    Returns:
        A context manager of the function to call with the evaluations done and the best scores.
    """
    if total is None:
        yield lambda done, best: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)

        def show(done: int, best: Mapping[str, float]) -> None:
            text = "  ".join(f"{name} {score:.3f}" for name, score in best.items())
            bar.update(task, completed=done, description=text)

        yield show
