"""What commands share: consoles, common options, and how they end."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape as escape

from qdmerge.errors import ConfigError

console = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 120)
"""Prints results; without a terminal to ask for its width, tables get room for their names."""

error_console = Console(stderr=True, soft_wrap=True, highlight=False)
"""Prints errors, warnings and interruptions."""

Source = Annotated[
    str,
    typer.Argument(help="A backend, a preset, or a YAML file.", show_default=False),
]
"""Argument: the configuration, as :func:`qdmerge.settings.load_config` takes it."""

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: execution.workers=2."),
]
"""Option ``--set``: overrides, as :func:`qdmerge.settings.load_config` takes them."""

Unsandboxed = Annotated[
    bool,
    typer.Option("--allow-unsandboxed", help="Execute what models write without a sandbox."),
]
"""Option ``--allow-unsandboxed``: see :func:`refuse_unsandboxed`."""


def print_warning(text: str) -> None:
    """Print a warning as one line."""
    error_console.print(f"[bold yellow]Warning:[/] {escape(text)}")


def refuse_unsandboxed(config: Any, allowed: bool) -> None:
    """Check that no file alone switches the sandbox off.

    Args:
        config: The :class:`qdmerge.settings.RunConfig`.
        allowed: Whether the user gave ``--allow-unsandboxed``.

    Raises:
        ConfigError: The configuration asks for it, and the user did not.
    """
    if getattr(config.backend, "allow_unsandboxed", False) and not allowed:
        raise ConfigError(
            "the configuration asks to execute what models write without a sandbox; if you accept "
            "the risk on this machine, add --allow-unsandboxed"
        )


def new_folder(source: str) -> Path:
    """Return the first free folder ``runs/NAME-N``, named after a source."""
    name = Path(source).stem
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def end_like_interrupt() -> None:
    """Make SIGTERM end the process as Ctrl-C does, by a KeyboardInterrupt."""

    def interrupt(signum: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
