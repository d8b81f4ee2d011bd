"""Merges without search: recipes, and the merge grids of their free parameters.

- :func:`plain_average`, :func:`task_arithmetic`: linear recipes, as solutions of any space that is
  :class:`Mergeable`. Regression means: solutions of any space that is :class:`Regressing`.
- :func:`ties`, :func:`dare`, :func:`dare_ties`, :func:`slerp`, :func:`slerp_chain`: formulas that
  are not linear, a tensor at a time; :func:`trim`, :func:`drop`, :func:`draws`: their steps.
- :class:`RecipeSpace`: a formula's free parameters as solutions: :class:`TiesSpace`,
  :class:`DareSpace`, :class:`DareTiesSpace`, :class:`SlerpSpace`.
- :data:`Recipe`, :class:`Axes`, :func:`grid`, :func:`grid_size`, :func:`recipe_solutions`: the
  merge grid of a recipe; :class:`RecipeEmitter`: evaluates it in a run.
- :func:`guided_start`, :func:`plane_start`: climbs from the best uniform merge, for a search to
  start from; :func:`uniform_rows`: these merges.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
