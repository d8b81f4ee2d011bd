"""Everything that text can choose, with a line about each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import EntryPoint

from qdmerge.errors import ConfigError
from qdmerge.parts import REGISTRIES, Registry, installed_parts
from qdmerge.plugins import installed
from qdmerge.settings._discovery import (
    backend_names,
    find_backend,
    presets,
    read_preset,
)
from qdmerge.settings._presets import search_presets

_Listed = list[tuple[str, str]]


def catalog(kinds: Iterable[str] | None = None) -> dict[str, list[tuple[str, str]]]:
    """Return what can be named in text; imports no torch and no pyribs.

    Packages add kinds by the entry-point group ``qdmerge.catalog``: the name is the kind, the value
    a function without arguments that returns pairs of name and summary.

    Args:
        kinds: The kinds to look up; None for all of :func:`catalog_kinds`.

    Returns:
        Kind to (name, summary) of everything of that kind.
    """
    sources = _sources()
    return {kind: sources[kind]() for kind in (sources if kinds is None else kinds)}


def catalog_kinds() -> list[str]:
    """Return the kinds of things that text can name; imports none of them."""
    return list(_sources())


def _sources() -> dict[str, Callable[[], _Listed]]:
    return {
        "backends": lambda: [(name, _summary(name)) for name in backend_names()],
        "presets": lambda: [(name, _first_comment(read_preset(name))) for name in presets()],
        "searches": lambda: [
            *((name, preset.summary) for name, preset in search_presets().items()),
            *_broken("search_preset"),
        ],
        **{kind: partial(_brought, point) for kind, point in installed("qdmerge.catalog").items()},
        **{f"{registry.kind}s": partial(_parts, registry) for registry in REGISTRIES},
    }


def _parts(registry: Registry) -> _Listed:
    named = [(name, entry.summary) for name, entry in registry.items()]
    return named + _broken(registry.kind)


def _broken(kind: str) -> _Listed:
    return [(package, f"broken: {cause}") for package, cause in installed_parts(kind).broken]


def _brought(point: EntryPoint) -> _Listed:
    try:
        return [(str(name), str(summary)) for name, summary in point.load()()]
    except Exception as error:  # a broken package does not take the list from all others
        return [(point.value, f"broken: {error}")]


def _first_comment(text: str) -> str:
    return text.lstrip().partition("\n")[0].removeprefix("#").strip()


def _summary(backend: str) -> str:
    try:
        return find_backend(backend).summary
    except ConfigError as error:
        return f"broken: {error}"
