"""A model of the results table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model of the results table.

    Attributes:
        name: Unique name ("aggregate", "best:coding", "expert:db").
        kind: "base", "expert", "average", "regmean", "task_arithmetic", "aggregate" or "elite".
        x: ``(dim,)`` solution.
        details: What else decides it, such as its scale.
    """

    name: str
    kind: str
    x: np.ndarray
    details: dict[str, Any] = field(default_factory=dict)
