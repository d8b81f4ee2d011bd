"""Random search as a pyribs emitter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from qdmerge.baselines._emitter import BaselineEmitter

if TYPE_CHECKING:
    from ribs.archives import ArchiveBase

    from qdmerge.emitters import EmitterSpec


class RandomEmitter(BaselineEmitter):
    """Draws every solution anew, whatever was found before; clipped to the bounds of the space.

    ``"gaussian"`` draws around the plain average, which suits every space. ``"uniform"`` draws
    each coordinate between ``low`` and ``high``. With the default [0, 1] that is random search
    over merging coefficients where a coordinate is an expert's weight, from nothing of an expert
    to all of it (spaces ``expert``, ``layer`` and ``spectral``); entries of cores are no weights.

    Args:
        archive: Archive of the active task; only its solutions' shape matters.
        spec: What the run provides.
        distribution: "gaussian" or "uniform".
        sigma: Standard deviation per coordinate of "gaussian" (1 is an expert's whole weight).
        low: Lower end of "uniform".
        high: Upper end of "uniform".
        batch_size: Solutions per ask; each ask draws from a generator of (seed, number of ask).

    Raises:
        ValueError: Unknown distribution, negative ``sigma``, ``low`` above ``high``, or
            ``batch_size`` below 1.
    """

    def __init__(
        self,
        archive: ArchiveBase,
        spec: EmitterSpec,
        *,
        distribution: Literal["gaussian", "uniform"] = "gaussian",
        sigma: Annotated[float, Field(ge=0)] = 0.2,
        low: float = 0.0,
        high: float = 1.0,
        batch_size: Annotated[int, Field(ge=1)] = 1,
    ) -> None:
        super().__init__(archive, spec)
        if distribution not in ("gaussian", "uniform"):
            raise ValueError(f"distribution must be 'gaussian' or 'uniform'; got {distribution!r}")
        if not sigma >= 0:
            raise ValueError(f"sigma must be at least 0; got {sigma}")
        if not low <= high:
            raise ValueError(f"low must not be above high; got low={low}, high={high}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        self._distribution = distribution
        self._sigma = sigma
        self._low, self._high = low, high
        self._batch_size = batch_size
        self._asks = 0

    @property
    def batch_size(self) -> int:
        """Solutions per ask."""
        return self._batch_size

    def ask(self) -> np.ndarray:
        """``(batch_size, dim)`` new solutions."""
        rng = np.random.default_rng([self._seed, self._asks])
        self._asks += 1
        shape = (self._batch_size, self._space.dim)
        if self._distribution == "gaussian":
            return self._solutions(self._space.x0 + rng.normal(0.0, self._sigma, shape))
        return self._solutions(rng.uniform(self._low, self._high, shape))
