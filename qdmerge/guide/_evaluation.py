"""Evaluations after what a guide is asked for."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.backend import Evaluation, GenomeBackend
from qdmerge.errors import EvaluationError, UnsupportedError, kind_of
from qdmerge.guide._climb import Climb, Slopes
from qdmerge.guide._plane import PlaneClimb

if TYPE_CHECKING:
    from qdmerge.spaces import Guide, Objective


def guide_of(backend: GenomeBackend, objective: Objective = "agreement") -> Guide:
    """Return a backend's guide.

    Args:
        backend: The backend.
        objective: The loss that is asked for.

    Raises:
        UnsupportedError: It has none, or not this loss; or its space is not differentiable.
    """
    from qdmerge.spaces import WeightSpace

    guide: Guide | None = getattr(backend, "guide", None)
    if guide is None:
        raise UnsupportedError(
            f"{type(backend).__name__} has no guide, so nothing tells a search where to go: set "
            "`guide` to a qdmerge.spaces.ModuleGuide with a method that returns the loss of the "
            "live module on unlabeled items, or search without 'guided' parts"
        )
    if objective not in getattr(guide, "objectives", ("agreement",)):
        raise UnsupportedError(
            f"{type(guide).__name__} has no loss '{objective}': give its qdmerge.spaces.ModuleGuide"
            f" the function '{objective}', or leave out what asks for it"
        )
    if isinstance(backend.space, WeightSpace):
        backend.space.check_differentiable()
    return guide


def check_slopes(backend: GenomeBackend) -> None:
    """Check that a backend's guide can give Jacobians.

    Raises:
        UnsupportedError: It cannot, or there is no guide.
    """
    guide = guide_of(backend)
    if backend.measures and not hasattr(guide, "measure_gradients"):
        names = ", ".join(measure.name for measure in backend.measures)
        raise UnsupportedError(
            f"{type(guide).__name__} has no gradients of the backend's own measures ({names}), "
            "which emitters that follow gradients need: give it a method measure_gradients(x) "
            "that returns (M, dim), or search with other emitters"
        )


Errand = Climb | PlaneClimb | Slopes
"""What to ask of the guide before a solution is scored."""

Start = Generator[tuple[np.ndarray, Sequence[Errand | None]], Evaluation, None]
"""What a search starts from, step by step.

It yields ``(n, dim)`` solutions with their errands, () for none, and receives their evaluation,
whose ``solutions`` are those that were scored; rows that are not finite failed.
"""


def evaluate(
    backend: GenomeBackend, x: np.ndarray, split: str, errand: Errand | None = None
) -> Evaluation:
    """Score one model, after what its errand asks of the guide.

    Args:
        backend: The backend.
        x: ``(dim,)`` solution.
        split: The split to score on.
        errand: None to score the solution as it is.

    Returns:
        The evaluation, with ``solutions`` after a climb, ``planes`` too after one that learns a
        plane (the solution is its middle), ``jacobians`` after :class:`Slopes`, and what the
        guide's work cost.

    Raises:
        UnsupportedError: The backend has no guide.
        EvaluationError: A loss is not finite, memory is not enough, or the backend returns no
            evaluation.
    """
    if errand is None:
        return _scored(backend, x, split)
    began = time.perf_counter()
    guide = guide_of(backend, getattr(errand, "objective", "agreement"))
    guide.prepare()
    found: dict[str, Any] = {}
    if isinstance(errand, Climb):
        x, passes = errand(guide, backend.space, x)
        found["solutions"] = x[None]
    elif isinstance(errand, PlaneClimb):
        plane, passes = errand(guide, backend.space, x)
        x = plane.at(np.full(len(plane.corners), 1 / len(plane.corners)))
        found |= {"solutions": x[None], "planes": plane.corners[None]}
    else:
        jacobian, passes = errand(guide, x)
        found["jacobians"] = jacobian[None]
    found |= {"passes": passes, "guide_seconds": time.perf_counter() - began}
    return replace(_scored(backend, x, split), **found)


def _scored(backend: GenomeBackend, x: np.ndarray, split: str) -> Evaluation:
    found = backend.evaluate(np.array(x)[None], split)
    if not isinstance(found, Evaluation):
        raise EvaluationError(
            f"{type(backend).__name__}.evaluate() returned {kind_of(found)}; it must return a "
            "qdmerge.Evaluation with scores of shape (models, tasks)"
        )
    return found


def joined(
    solutions: np.ndarray, parts: Sequence[Evaluation | None], n_tasks: int, n_measures: int
) -> Evaluation:
    """Return evaluations of single models as one; None is one that failed.

    Args:
        solutions: ``(n, dim)``, what was asked for.
        parts: The n evaluations.
        n_tasks: Number of tasks, K.
        n_measures: Number of the backend's own measures, M.
    """
    n = len(parts)
    scores, measures = np.full((n, n_tasks), np.nan), np.full((n, n_measures), np.nan)
    items: list[Mapping[str, np.ndarray] | None] = [None] * n
    scored, jacobians, planes = solutions.copy(), {}, {}
    for row, part in enumerate(parts):
        if part is None:
            continue
        scores[row] = part.scores[0]
        if part.measures is not None:
            measures[row] = part.measures[0]
        if part.items is not None:
            items[row] = part.items[0]
        if part.solutions is not None:
            scored[row] = part.solutions[0]
        if part.jacobians is not None:
            jacobians[row] = part.jacobians[0]
        if part.planes is not None:
            planes[row] = part.planes[0]
    return Evaluation(
        scores,
        measures,
        items,
        scored,
        _stacked(jacobians, n),
        _stacked(planes, n),
        sum(part.passes for part in parts if part),
        sum(part.guide_seconds for part in parts if part),
    )


def _stacked(found: Mapping[int, np.ndarray], n: int) -> np.ndarray | None:
    """Return arrays of rows as one with n rows, 0 where there is none; None without any."""
    if not found:
        return None
    nothing = np.zeros_like(next(iter(found.values())))
    return np.stack([found.get(row, nothing) for row in range(n)])
