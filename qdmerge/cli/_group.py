"""The group of commands: ours, those that packages bring, and errors and hints for people."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from typing import Any

import typer
from typer.core import TyperGroup

from qdmerge.cli._common import error_console, escape, print_warning
from qdmerge.errors import EvaluationError, Hint, QDMergeError
from qdmerge.plugins import installed

COMMANDS = "qdmerge.commands"
"""Entry-point group of commands: the name is the verb, the value a function or a Typer app."""


class CommandGroup(TyperGroup):
    """Our commands and those of installed packages; prints errors and hints as one line each."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return our commands, then those of installed packages."""
        return list(dict.fromkeys([*super().list_commands(ctx), *installed(COMMANDS)]))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; a package's is imported here, and skipped if that fails."""
        found = super().get_command(ctx, cmd_name)
        point = installed(COMMANDS).get(cmd_name) if found is None else None
        if point is None:
            return found
        try:
            return _command(point)
        except Exception as error:
            cause = " ".join(str(error).split()) or type(error).__name__
            print_warning(f"skipped the command '{cmd_name}' ({point.value}): {cause}")
            return None

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            with _printed_hints():
                return super().invoke(ctx)
        except QDMergeError as error:
            error_console.print(f"[bold red]Error:[/] {escape(str(error))}")
            raise typer.Exit(1 if isinstance(error, EvaluationError) else 2) from error


def _command(point: EntryPoint) -> Any:
    """Build the command of an entry point under the entry point's name."""
    loaded = point.load()
    app = loaded
    if not isinstance(loaded, typer.Typer):
        if not callable(loaded):
            raise TypeError(f"it is of type {type(loaded).__name__}, not a function or a Typer app")
        app = typer.Typer(add_completion=False)
        app.command(point.name)(loaded)
    command = typer.main.get_command(app)
    command.name = point.name
    return command


@contextmanager
def _printed_hints() -> Iterator[None]:
    """Print each hint once, without the place in the code that gave it."""
    seen: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def show_hint(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if not issubclass(category, Hint):
                show(message, category, *where)
            elif str(message) not in seen:
                seen.add(str(message))
                print_warning(str(message))

        warnings.simplefilter("always", Hint)
        warnings.showwarning = show_hint  # type: ignore[assignment]
        yield
