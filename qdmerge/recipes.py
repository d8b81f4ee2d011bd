"""Named recipes of a search: the parts that make a run CycleQD as published, or as we advise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECIPES: Mapping[str, Mapping[str, Any]] = {
    # arXiv 2410.14735: elite sampling, linear merging with sigma 0.03, one-sided SVD mutation.
    "paper": {
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
}
"""Recipe to the configuration keys it sets."""
