"""What a search asks of a guide: climbs before solutions are scored, planes, and Jacobians.

- :class:`Climb` improves a solution; :class:`PlaneClimb` learns a :class:`Plane`, a solution for
  any task weights; :class:`Slopes` gives a Jacobian. These are an :data:`Errand` of a solution.
- :func:`evaluate` scores a solution after its errand; :func:`joined` puts evaluations together.
- :func:`guide_of`, :func:`check_slopes`, :func:`draw_rows`, :func:`spread_weights`.
"""

from __future__ import annotations

from qdmerge.guide._climb import Climb, Slopes, draw_rows
from qdmerge.guide._evaluation import Errand, Start, check_slopes, evaluate, guide_of, joined
from qdmerge.guide._plane import Plane, PlaneClimb, spread_weights

__all__ = [
    "Climb",
    "Errand",
    "Plane",
    "PlaneClimb",
    "Slopes",
    "Start",
    "check_slopes",
    "draw_rows",
    "evaluate",
    "guide_of",
    "joined",
    "spread_weights",
]
