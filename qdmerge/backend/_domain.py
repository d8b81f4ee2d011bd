"""Tasks, measures and evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qdmerge.errors import ConfigError, EvaluationError

SPLITS = ("validation", "selection", "test")
"""The search sees ``validation``; ``selection`` chooses the result; ``test`` is scored once."""

SIDE = "reported"
"""The split of a backend's side tasks: score columns are :attr:`GenomeBackend.side_tasks`.

It is not one of :data:`SPLITS`, since its tasks are others than those of the search.
"""


@dataclass(frozen=True)
class Task:
    """One skill that a model is scored on; higher scores are better.

    Args:
        name: Name of the task, unique within a backend.
        metric: What the score is, for tables and axes ("pass@1", "mean Dice").
        range: Lowest and highest value the metric can take; infinite ends are allowed.
        expert: Expert that was trained for this task. None means the expert of the same name,
            if there is one.

    Raises:
        ConfigError: ``range`` does not rise.
    """

    name: str
    metric: str = "score"
    range: tuple[float, float] = (0.0, 1.0)
    expert: str | None = None

    def __post_init__(self) -> None:
        if not self.range[0] < self.range[1]:
            raise ConfigError(f"range of task '{self.name}' must rise; got {self.range}")


@dataclass(frozen=True)
class Measure:
    """A behavior descriptor of the domain's own, an axis of every archive.

    Args:
        name: Name of the measure.
        range: Lowest and highest value; finite, since it becomes the range of the axis.

    Raises:
        ConfigError: ``range`` is not finite or does not rise.
    """

    name: str
    range: tuple[float, float]

    def __post_init__(self) -> None:
        if not (np.isfinite(self.range).all() and self.range[0] < self.range[1]):
            raise ConfigError(
                f"range of measure '{self.name}' must be finite and rise; got {self.range}"
            )


@dataclass(frozen=True)
class Evaluation:
    """Scores of n models.

    Args:
        scores: ``(n, K)`` float64, one column per task. A row that is not finite counts as failed.
        measures: ``(n, M)`` float64, the backend's own measures, or None if it has none.
        items: Per model, task name to ``(n_items,)`` scores of single items: what bootstrap
            intervals are computed from. Names that are no task's are further scores: results show
            their means beside the tasks'. None if the domain has no items, and for a failed model.
        solutions: ``(n, dim)``, what was scored; None where it is what was asked for.
        jacobians: ``(n, K + M, dim)`` gradients of scores and measures, where they were asked for.
        planes: ``(n, K, dim)`` corners of the planes that were learned; see
            :class:`qdmerge.guide.Plane`.
        passes: Gradient passes that a guide took: forward and backward over a batch of items.
        guide_seconds: Wall time of the guide's work.
    """

    scores: np.ndarray
    measures: np.ndarray | None = None
    items: Sequence[Mapping[str, np.ndarray] | None] | None = None
    solutions: np.ndarray | None = None
    jacobians: np.ndarray | None = None
    planes: np.ndarray | None = None
    passes: int = 0
    guide_seconds: float = 0.0

    def checked(self, n: int, n_tasks: int, n_measures: int) -> Evaluation:
        """Return this evaluation as float64 arrays, after a check of their shapes.

        Args:
            n: Number of models that were evaluated.
            n_tasks: Number of tasks, K.
            n_measures: Number of the backend's own measures, M.

        Returns:
            ``(n, K)`` scores and ``(n, M)`` measures, never None.

        Raises:
            EvaluationError: An array has another shape, or items do not cover all models.
        """
        scores = np.asarray(self.scores, dtype=np.float64)
        given = np.empty((n, 0)) if self.measures is None else self.measures
        measures = np.asarray(given, dtype=np.float64)
        for name, array, columns, expected in (
            ("scores", scores, "tasks", (n, n_tasks)),
            ("measures", measures, "measures", (n, n_measures)),
        ):
            if array.shape != expected:
                raise EvaluationError(
                    f"got {name} of shape {array.shape}; expected (models, {columns}) = {expected}"
                )
        if self.items is not None and len(self.items) != n:
            raise EvaluationError(f"got per-item scores of {len(self.items)} models; expected {n}")
        return replace(self, scores=scores, measures=measures)

    @property
    def valid(self) -> np.ndarray:
        """``(n,)`` bool: the rows whose scores, measures and gradients are all finite."""
        valid = np.isfinite(self.scores).all(axis=1)
        for more in (self.measures, self.jacobians):
            if more is not None:
                valid &= np.isfinite(more).all(axis=tuple(range(1, np.ndim(more))))
        return valid
