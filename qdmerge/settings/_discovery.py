"""Find what packages bring by entry point: backends and their presets, ours like any other."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from qdmerge.errors import ConfigError, nearest

if TYPE_CHECKING:
    from qdmerge.backend import BackendConfig

GROUP = "qdmerge.backends"


def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, in the order of their names."""
    return {point.name: point for point in sorted(_scan(tuple(sys.path)).select(group=group))}


@cache
def _scan(path: tuple[str, ...]) -> Any:  # EntryPoints; SelectableGroups up to Python 3.11
    """Read all entry points on a path once, since a scan opens a file per distribution."""
    return entry_points()


def _entry_points() -> dict[str, EntryPoint]:
    return installed(GROUP)


def backend_names() -> list[str]:
    """Return the names of all installed backends."""
    return list(_entry_points())


def find_backend(name: str) -> type[BackendConfig]:
    """Return the settings class of a backend.

    Raises:
        ConfigError: Unknown name, or the backend cannot be imported.
    """
    from qdmerge.backend import BackendConfig

    points = _entry_points()
    if name not in points:
        raise ConfigError(
            f"unknown backend '{name}'{nearest(name, points)} Installed: "
            f"{', '.join(points) or 'none'}"
        )
    try:
        backend = points[name].load()
    except Exception as error:
        raise ConfigError(
            f"backend '{name}' ({points[name].value}) cannot be imported: {error}"
        ) from error
    if not (isinstance(backend, type) and issubclass(backend, BackendConfig)):
        raise ConfigError(
            f"entry point '{name}' of {GROUP} must name a BackendConfig; {points[name].value} is "
            f"{backend!r}"
        )
    return backend


def presets() -> dict[str, str]:
    """Return preset name to resource, of all installed backends that can be imported."""
    found: dict[str, str] = {}
    for name in backend_names():
        try:
            found |= find_backend(name).presets
        except ConfigError:
            continue
    return found


def find_preset(name: str) -> str:
    """Return the resource of a preset, or of the first preset of a backend.

    Raises:
        ConfigError: Neither a preset nor a backend with one.
    """
    known = presets()
    if name in known:
        return known[name]
    if name in backend_names():
        own = find_backend(name).presets
        if own:
            return next(iter(own.values()))
        raise ConfigError(f"backend '{name}' has no preset; give a configuration file")
    names = [*known, *backend_names()]
    raise ConfigError(
        f"'{name}' is neither a file nor a preset or backend{nearest(name, names)} "
        f"Known: {', '.join(names)}"
    )


def read_preset(name: str) -> str:
    """Read the commented YAML of a preset, or of a backend's first preset.

    Raises:
        ConfigError: Unknown name.
    """
    package, _, path = find_preset(name).partition("/")
    return files(package).joinpath(path).read_text(encoding="utf-8")
