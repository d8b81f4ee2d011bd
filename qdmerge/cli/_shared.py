"""What the commands share: where they print, common options, and how they end."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from qdmerge.errors import ConfigError

# Where there is no terminal to ask for its width, tables get room for their names.
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True, soft_wrap=True)


Source = Annotated[
    str,
    typer.Argument(help="A backend, a preset, or a YAML file.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: execution.workers=2."),
]
Unsandboxed = Annotated[
    bool,
    typer.Option("--allow-unsandboxed", help="Execute what models write without a sandbox."),
]


def escape(text: str) -> str:
    """The text as rich prints it literally."""
    from rich.markup import escape

    return escape(text)


def refuse_unsandboxed(config: Any, allowed: bool) -> None:
    """A file alone may not switch the sandbox off.

    Raises:
        ConfigError: It asks to, and the user has not.
    """
    if getattr(config.backend, "allow_unsandboxed", False) and not allowed:
        raise ConfigError(
            "the configuration asks to execute what models write without a sandbox; if you accept "
            "the risk on this machine, add --allow-unsandboxed"
        )


def new_folder(source: str) -> Path:
    """The first free folder runs/NAME-N."""
    name = Path(source).stem
    number = 1
    while (folder := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return folder


def end_like_interrupt() -> None:
    """A polite kill ends the process like Ctrl-C does."""

    def interrupt(signum: int, frame: Any) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
