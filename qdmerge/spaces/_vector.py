"""A free vector, for domains whose solutions are no model weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qdmerge.spaces._base import Space


class VectorSpace(Space):
    """Vectors of float64 with optional bounds; needs no torch.

    Args:
        seeds: Known solutions by name; all of one length, which is the dimension.
        lower: Lower bounds, a number or shape ``(dim,)``; None for none.
        upper: Upper bounds, a number or shape ``(dim,)``; None for none.
        experts: Names of the seeds that are experts of a task; none by default.

    Raises:
        ValueError: If lengths differ, a seed is not finite or outside the bounds.
    """

    name: ClassVar[str] = "vector"

    def __init__(
        self,
        seeds: Mapping[str, npt.ArrayLike],
        lower: npt.ArrayLike | None = None,
        upper: npt.ArrayLike | None = None,
        experts: Sequence[str] = (),
    ) -> None:
        super().__init__(
            seeds=seeds,
            experts=experts,
            lower=-np.inf if lower is None else lower,
            upper=np.inf if upper is None else upper,
        )
