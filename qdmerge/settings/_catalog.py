"""Everything that text can choose, with a line about each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import EntryPoint

from qdmerge.errors import ConfigError
from qdmerge.settings._config import read_preset
from qdmerge.settings._discovery import backend_names, find_backend, installed, presets
from qdmerge.settings._parts import (
    ARCHIVES,
    CROSSOVERS,
    EMITTERS,
    MUTATIONS,
    SCHEDULERS,
    SELECTIONS,
    SPACES,
)
from qdmerge.settings._presets import RECIPES

_Listed = list[tuple[str, str]]

_REGISTRIES = {
    "spaces": SPACES,
    "archives": ARCHIVES,
    "emitters": EMITTERS,
    "schedulers": SCHEDULERS,
    "selections": SELECTIONS,
    "crossovers": CROSSOVERS,
    "mutations": MUTATIONS,
}


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
        "searches": lambda: [(name, recipe.summary) for name, recipe in RECIPES.items()],
        **{kind: partial(_brought, point) for kind, point in installed("qdmerge.catalog").items()},
        **{
            kind: lambda registry=registry: [  # type: ignore[misc]
                (name, entry.summary) for name, entry in registry.items()
            ]
            for kind, registry in _REGISTRIES.items()
        },
    }


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
