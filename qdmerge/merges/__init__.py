"""Merges without search: recipes, and the grids of their free parameters.

- :func:`plain_average`, :func:`task_arithmetic`: recipes that are linear, in any space that is
  :class:`Mergeable`; regression means, in any that is :class:`Regressing`.
- :func:`ties`, :func:`dare`, :func:`dare_ties`, :func:`slerp`: recipes that are not, a tensor at a
  time; :class:`TiesSpace`, :class:`DareSpace`, :class:`DareTiesSpace`, :class:`SlerpSpace`: their
  free parameters as solutions.
- :class:`RecipeEmitter`: tries the grid of a recipe; :func:`grid`, :func:`grid_size`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
