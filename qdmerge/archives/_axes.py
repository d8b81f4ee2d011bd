"""Axes of the archives, sized from the experts' scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, FiniteFloat

from qdmerge.options import checked

if TYPE_CHECKING:
    from qdmerge.backend import Measure, Task


@dataclass(frozen=True)
class Axis:
    """One measure of an archive: a task's score or a backend's own measure.

    Args:
        name: Name of the task or measure.
        low: Lower end of the axis; smaller values count into the first cell.
        high: Upper end of the axis; larger values count into the last cell.
    """

    name: str
    low: float
    high: float


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] < ends[1]:
        raise ValueError(f"a range must rise (got {ends})")
    return ends


Range = Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_rising)]


@checked
@dataclass(frozen=True)
class AxisSizing:
    """The width of the axes.

    An axis of a task reaches from ``low_margin`` x the weakest expert's score to ``high_margin`` x
    the strongest expert's (arXiv 2410.14735, section 4.1). For negative scores the margins widen
    the axis just the same. Where this leaves no width (all experts score 0), the axis is the range
    of the task's metric, or one unit around the score if that range is infinite.

    Args:
        low_margin: Factor below the weakest expert.
        high_margin: Factor above the strongest expert.
        ranges: Task or measure name to an explicit (low, high), which wins over everything.

    Raises:
        ConfigError: A margin that narrows the axis, or a range that is not finite or does not rise.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # as a part of a configuration

    low_margin: Annotated[float, Field(le=1)] = 0.85
    high_margin: Annotated[float, Field(ge=1)] = 1.15
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def known(self, tasks: Sequence[Task]) -> bool:
        """Return whether archives of these tasks can be built before there are scores."""
        if not all(np.isfinite(task.range[0]) for task in tasks):
            return False
        return len(tasks) == 1 or all(task.name in self.ranges for task in tasks)

    def task_axis(self, task: Task, expert_scores: Sequence[float] | np.ndarray) -> Axis:
        """Return the axis of a task, from the experts' scores on it."""
        if task.name in self.ranges:
            return Axis(task.name, *self.ranges[task.name])
        weakest, strongest = float(np.min(expert_scores)), float(np.max(expert_scores))
        low = weakest - (1 - self.low_margin) * abs(weakest)
        high = strongest + (self.high_margin - 1) * abs(strongest)
        if not low < high:
            low, high = task.range
            if not np.isfinite([low, high]).all():
                low, high = weakest - 0.5, strongest + 0.5
        return Axis(task.name, low, high)

    def measure_axis(self, measure: Measure) -> Axis:
        """Return the axis of a backend's own measure."""
        return Axis(measure.name, *self.ranges.get(measure.name, measure.range))
