"""Everything that text can choose, with a line about each."""

from __future__ import annotations

from qdmerge.discovery import backend_names, find_backend, presets
from qdmerge.errors import ConfigError
from qdmerge.parts import (
    ARCHIVES,
    CROSSOVERS,
    EMITTERS,
    MUTATIONS,
    SCHEDULERS,
    SELECTIONS,
    SPACES,
)


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
        "presets": list(presets().items()),
        **{
            kind: [(name, entry.summary) for name, entry in registry.items()]
            for kind, registry in registries.items()
        },
    }


def _summary(backend: str) -> str:
    try:
        return find_backend(backend).summary
    except ConfigError as error:
        return f"broken: {error}"
