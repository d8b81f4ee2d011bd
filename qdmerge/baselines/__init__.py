"""What every result is compared with: recipes without search, and other searches.

- :func:`plain_average`, :func:`task_arithmetic`: recipes that are linear, in any space that is
  :class:`Mergeable`; regression means, in any that is :class:`Regressing`.
- :func:`ties`, :func:`dare`, :func:`dare_ties`, :func:`slerp`: recipes that are not, a tensor at a
  time; :class:`TiesSpace`, :class:`DareSpace`, :class:`DareTiesSpace`, :class:`SlerpSpace`: their
  free parameters as solutions.
- :class:`RecipeEmitter`: tries the grid of a recipe; :func:`grid`, :func:`grid_size`.
- The other emitters are searches.

Emitters and spaces are imported on first use, since pyribs and torch take seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qdmerge.baselines._grid import Recipe, grid, grid_size
from qdmerge.baselines._recipes import (
    Mergeable,
    Regressing,
    plain_average,
    recipe_solutions,
    task_arithmetic,
)

if TYPE_CHECKING:
    from qdmerge.baselines._cma import CMAESEmitter
    from qdmerge.baselines._dare import dare, dare_ties
    from qdmerge.baselines._m2n2 import M2N2Emitter
    from qdmerge.baselines._nsga2 import NSGA2Emitter
    from qdmerge.baselines._random import RandomEmitter
    from qdmerge.baselines._recipe_emitter import RecipeEmitter
    from qdmerge.baselines._recipe_space import (
        DareSpace,
        DareTiesSpace,
        RecipeSpace,
        SlerpSpace,
        TiesSpace,
    )
    from qdmerge.baselines._slerp import slerp
    from qdmerge.baselines._ties import ties

__all__ = [
    "CMAESEmitter",
    "DareSpace",
    "DareTiesSpace",
    "M2N2Emitter",
    "Mergeable",
    "NSGA2Emitter",
    "RandomEmitter",
    "Recipe",
    "RecipeEmitter",
    "RecipeSpace",
    "Regressing",
    "SlerpSpace",
    "TiesSpace",
    "dare",
    "dare_ties",
    "grid",
    "grid_size",
    "plain_average",
    "recipe_solutions",
    "slerp",
    "task_arithmetic",
    "ties",
]

_LAZY = {
    "CMAESEmitter": "_cma",
    "DareSpace": "_recipe_space",
    "DareTiesSpace": "_recipe_space",
    "M2N2Emitter": "_m2n2",
    "NSGA2Emitter": "_nsga2",
    "RandomEmitter": "_random",
    "RecipeEmitter": "_recipe_emitter",
    "RecipeSpace": "_recipe_space",
    "SlerpSpace": "_recipe_space",
    "TiesSpace": "_recipe_space",
    "dare": "_dare",
    "dare_ties": "_dare",
    "slerp": "_slerp",
    "ties": "_ties",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"qdmerge.baselines.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
