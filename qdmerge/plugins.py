"""What installed packages bring, by entry point; ours like any other."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from qdmerge.errors import ConfigError, nearest

_T = TypeVar("_T")


def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, in the order of their names."""
    return {point.name: point for point in sorted(_scan(tuple(sys.path)).select(group=group))}


@cache
def _scan(path: tuple[str, ...]) -> Any:  # EntryPoints; SelectableGroups up to Python 3.11
    """Read all entry points on a path once, since a scan opens a file per distribution."""
    return entry_points()


def load_class(group: str, name: str, base: type[_T], what: str) -> type[_T]:
    """Import the class that an entry point names.

    Args:
        group: The group of entry points.
        name: Name of the entry point.
        base: What the class must be a subclass of.
        what: What the group holds, for messages: "backend".

    Raises:
        ConfigError: Unknown name, the class cannot be imported, or it is of another kind.
    """
    points = installed(group)
    if name not in points:
        known = ", ".join(points) or "none"
        raise ConfigError(f"unknown {what} '{name}'{nearest(name, points)} Installed: {known}")
    try:
        loaded = points[name].load()
    except Exception as error:
        raise ConfigError(
            f"{what} '{name}' ({points[name].value}) cannot be imported: {error}"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise ConfigError(
            f"entry point '{name}' of {group} must name a {base.__name__}; {points[name].value} is "
            f"{loaded!r}"
        )
    return loaded
