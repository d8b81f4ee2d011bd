"""Find backends and their presets, which packages bring by entry point."""

from __future__ import annotations

from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING

from qdmerge.errors import ConfigError, nearest
from qdmerge.plugins import installed, load_class

if TYPE_CHECKING:
    from qdmerge.backend import BackendConfig

GROUP = "qdmerge.backends"


def backend_names() -> list[str]:
    """Return the names of all installed backends."""
    return list(installed(GROUP))


def find_backend(name: str) -> type[BackendConfig]:
    """Return the settings class of a backend.

    Raises:
        ConfigError: Unknown name, or the backend cannot be imported.
    """
    from qdmerge.backend import BackendConfig

    return load_class(GROUP, name, BackendConfig, "backend")


def presets_for(backend: str) -> dict[str, str]:
    """Return a backend's presets, name to resource: those of installed schemes, then its own.

    A scheme that cannot be imported brings none.

    Raises:
        ConfigError: Unknown backend, or it cannot be imported.
    """
    from qdmerge.checkpoints import find_scheme, scheme_names

    found: dict[str, str] = {}
    for scheme in scheme_names():
        with suppress(ConfigError):
            found |= find_scheme(scheme).presets.get(backend, {})
    return found | dict(find_backend(backend).presets)


def presets() -> dict[str, str]:
    """Return preset name to resource, of all installed backends that can be imported."""
    found: dict[str, str] = {}
    for name in backend_names():
        with suppress(ConfigError):
            found |= presets_for(name)
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
        own = presets_for(name)
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
