"""Search presets: the parts that make a run CycleQD, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qdmerge.errors import ConfigError, nearest
from qdmerge.parts import installed_parts


@dataclass(frozen=True)
class SearchPreset:
    """The parts of a search, under a name.

    Attributes:
        summary: One line for ``qdmerge list``.
        changes: The configuration keys that it sets.
        without_guide: Name of the search preset to use where a backend has no guide; None if this
            one needs none.
    """

    summary: str
    changes: Mapping[str, Any]
    without_guide: str | None = None


SEARCH_PRESETS: Mapping[str, SearchPreset] = {
    # arXiv 2410.14735: elite sampling, linear merging with sigma 0.03, one-sided SVD mutation along
    # the child's own task vector.
    "paper": SearchPreset(
        "CycleQD as published",
        {
            "space": "core",
            "start": [],
            "emitters": [
                {
                    "name": "merge",
                    "selection": {"name": "elite"},
                    "crossover": {"name": "linear", "sigma": 0.03},
                    "mutation": {"name": "svd_child", "scale": 0.1},
                }
            ],
            "scheduler": "cycle",
        },
    ),
    # github.com/SakanaAI/CycleQD: the active task's expert is what mutation perturbs, sigma is
    # 0.01. Its elite sampling differs from the paper's by a defect, which is not copied.
    "released": SearchPreset(
        "CycleQD as in its authors' code: mutation along the active task's expert",
        {
            "space": "spectral",
            "start": [],
            "emitters": [
                {
                    "name": "merge",
                    "selection": {"name": "elite"},
                    "crossover": {"name": "linear", "sigma": 0.01},
                    "mutation": {"name": "svd", "scale": 0.1},
                }
            ],
            "scheduler": "cycle",
        },
    ),
    # Chosen and confirmed in docs/results/recommended.md.
    "recommended": SearchPreset(
        "CycleQD along the experts' gradients; `unguided` where a backend has no guide",
        {
            "space": "core",
            "start": ["guided"],
            "emitters": [
                {
                    "name": "merge",
                    "selection": {"name": "elite", "low": 0.01, "high": 1.0},
                    "crossover": {"name": "linear", "sigma": 0.3},
                    "mutation": {"name": "guided", "steps": 10, "rate": 0.03, "focus": 0.5},
                }
            ],
            "scheduler": "cycle",
        },
        without_guide="unguided",
    ),
    "unguided": SearchPreset(
        "CycleQD on regression means: weighted by what layers receive, begun with RegMean",
        {
            "space": "regmean",
            "start": ["regmean"],
            "emitters": [
                {
                    "name": "merge",
                    "selection": {"name": "elite", "low": 0.1, "high": 1.0},
                    "crossover": {"name": "linear", "sigma": 0.3, "total": [0.9, 1.15]},
                    "mutation": {"name": "svd", "scale": 0.2, "symmetric": True, "per": "matrix"},
                }
            ],
            "scheduler": "cycle",
        },
    ),
}
"""The built-in search presets by name."""


def search_presets() -> dict[str, SearchPreset]:
    """Return all search presets by name, those of other packages included."""
    return {**installed_parts("search_preset").parts, **SEARCH_PRESETS}


def with_search_preset(data: Mapping[str, Any], name: str, guided: bool) -> dict[str, Any]:
    """Return a plain configuration with the keys of a search preset.

    Args:
        data: The configuration.
        name: Name of the search preset.
        guided: Whether the configured backend has a guide.

    Raises:
        ConfigError: Unknown search preset.
    """
    known = search_presets()
    if name not in known:
        raise ConfigError(
            f"unknown search preset '{name}'{nearest(name, known)} Known: {', '.join(known)}."
        )
    if not guided and (other := known[name].without_guide):
        return with_search_preset(data, other, guided)
    return with_changes(data, known[name].changes)


def with_changes(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plain configuration with other keys.

    ``final`` is merged key by key, and a space given by its name keeps the options that it has.
    """
    merged = {**data, **changes}
    own = data.get("space")
    if isinstance(own, Mapping) and own.get("name") == merged["space"]:
        merged["space"] = own
    if "final" in changes:
        merged["final"] = {**(data.get("final") or {}), **changes["final"]}
    return merged
