"""Everything that text can choose, with a line about each."""

from __future__ import annotations

from qdmerge.compare import METHODS
from qdmerge.errors import ConfigError
from qdmerge.settings._config import read_preset
from qdmerge.settings._discovery import backend_names, find_backend, presets
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


def catalog() -> dict[str, list[tuple[str, str]]]:
    """Kind of part to (name, summary) of every part; imports no torch and no pyribs."""
    registries = {
        "spaces": SPACES,
        "archives": ARCHIVES,
        "emitters": EMITTERS,
        "schedulers": SCHEDULERS,
        "selections": SELECTIONS,
        "crossovers": CROSSOVERS,
        "mutations": MUTATIONS,
    }
    return {
        "backends": [(name, _summary(name)) for name in backend_names()],
        "presets": [(name, _first_comment(read_preset(name))) for name in presets()],
        "recipes": [(name, recipe.summary) for name, recipe in RECIPES.items()],
        "methods": [(name, method.summary) for name, method in METHODS.items()],
        **{
            kind: [(name, entry.summary) for name, entry in registry.items()]
            for kind, registry in registries.items()
        },
    }


def _first_comment(text: str) -> str:
    return text.lstrip().partition("\n")[0].removeprefix("#").strip()


def _summary(backend: str) -> str:
    try:
        return find_backend(backend).summary
    except ConfigError as error:
        return f"broken: {error}"
