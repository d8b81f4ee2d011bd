"""Named recipes of a search: the parts that make a run CycleQD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qdmerge.errors import ConfigError, nearest


@dataclass(frozen=True)
class Recipe:
    """A named recipe.

    Attributes:
        summary: One line.
        changes: The configuration keys it sets.
    """

    summary: str
    changes: Mapping[str, Any]


RECIPES: Mapping[str, Recipe] = {
    # arXiv 2410.14735: elite sampling, linear merging with sigma 0.03, one-sided SVD mutation.
    "paper": Recipe(
        "CycleQD as published",
        {
            "start": [],
            "emitters": [
                {
                    "name": "merge",
                    "selection": {"name": "elite"},
                    "crossover": {"name": "linear", "sigma": 0.03},
                    "mutation": {"name": "svd", "scale": 0.1},
                }
            ],
            "scheduler": "cycle",
        },
    ),
    # Chosen and confirmed in docs/results/recommended.md.
    "recommended": Recipe(
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
"""Name to recipe."""


def with_recipe(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A plain configuration with the keys of a recipe.

    Raises:
        ConfigError: Unknown recipe.
    """
    if name not in RECIPES:
        raise ConfigError(
            f"unknown recipe '{name}'{nearest(name, RECIPES)} Known: {', '.join(RECIPES)}."
        )
    return with_changes(data, RECIPES[name].changes)


def with_changes(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A plain configuration with other keys; those of ``final`` join the ones that are there."""
    merged = {**data, **changes}
    if "final" in changes:
        merged["final"] = {**(data.get("final") or {}), **changes["final"]}
    return merged
