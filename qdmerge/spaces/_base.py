"""The base class of spaces, and the free vector for domains without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt


class Space:
    """A real vector space of solutions.

    Attributes:
        name: Short name used in configurations and messages.
        dim: Number of coordinates.
        dtype: Data type of solutions, a :class:`numpy.dtype`.
        lower_bounds: Shape ``(dim,)``, ``-inf`` where a coordinate is free.
        upper_bounds: Shape ``(dim,)``, ``inf`` where a coordinate is free.
        experts: Names of the experts, in order; every one of them is a seed.
        seeds: Known solutions by name, each of shape ``(dim,)`` and read-only.
    """

    name: ClassVar[str]

    def __init__(
        self,
        *,
        seeds: Mapping[str, npt.ArrayLike],
        experts: Sequence[str] = (),
        lower: npt.ArrayLike = -np.inf,
        upper: npt.ArrayLike = np.inf,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        if not seeds:
            raise ValueError("a space needs at least one seed; received none")
        self.dtype = np.dtype(dtype)
        first = np.asarray(next(iter(seeds.values())))
        if first.ndim != 1:
            raise ValueError(f"a seed must be a vector; received one of shape {first.shape}")
        self.dim = len(first)
        self.lower_bounds = self._bounds("lower", lower)
        self.upper_bounds = self._bounds("upper", upper)
        empty = np.flatnonzero(~(self.lower_bounds <= self.upper_bounds))
        if len(empty):
            raise ValueError(
                f"lower bounds must not exceed upper bounds; they do at coordinates {empty[:5]}"
            )
        self.experts = tuple(experts)
        self.seeds: dict[str, np.ndarray] = {}
        for name, x in seeds.items():
            self.seeds[name] = self._seed(name, x)
        unknown = [name for name in self.experts if name not in self.seeds]
        if unknown:
            raise ValueError(f"every expert must be a seed; these are not: {unknown}")

    @property
    def x0(self) -> np.ndarray:
        """The point where stock emitters start: the mean of the experts, or else of all seeds."""
        names = self.experts or tuple(self.seeds)
        seeds = np.stack([self.seeds[name] for name in names])
        mean: np.ndarray = seeds.mean(axis=0, dtype=np.float64).astype(self.dtype)
        return mean

    @property
    def units(self) -> np.ndarray:
        """Change of each coordinate that matters, ``(dim,)`` float32: steps are taken in units."""
        return np.ones(self.dim, np.float32)

    def check(self, x: npt.ArrayLike) -> np.ndarray:
        """Return ``x`` as a vector of this space.

        Raises:
            ValueError: If ``x`` has another shape than ``(dim,)`` or is not finite.
        """
        vector = np.asarray(x)
        if vector.shape != (self.dim,):
            raise ValueError(
                f"expected a solution of shape ({self.dim},) for this {self.name} space; "
                f"received shape {vector.shape}"
            )
        with np.errstate(over="ignore"):
            vector = vector.astype(self.dtype)
        bad = np.flatnonzero(~np.isfinite(vector))
        if len(bad):
            raise ValueError(
                f"expected finite coordinates; received {vector[bad[0]]} at {bad[0]} "
                f"({len(bad)} of {self.dim} are not finite in {self.dtype})"
            )
        return vector

    def _seed(self, name: str, x: npt.ArrayLike) -> np.ndarray:
        try:
            vector = self.check(x)
        except ValueError as error:
            raise ValueError(f"seed {name!r}: {error}") from None
        outside = np.flatnonzero((vector < self.lower_bounds) | (vector > self.upper_bounds))
        if len(outside):
            raise ValueError(
                f"seed {name!r} lies outside the bounds at coordinates {outside[:5]}: "
                f"{vector[outside[:5]]}"
            )
        vector.setflags(write=False)
        return vector

    def _bounds(self, which: str, value: npt.ArrayLike) -> np.ndarray:
        bounds = np.asarray(value, dtype=self.dtype)
        if bounds.ndim and bounds.shape != (self.dim,):
            raise ValueError(
                f"expected {which} bounds as a number or of shape ({self.dim},); "
                f"received shape {bounds.shape}"
            )
        return np.broadcast_to(bounds, (self.dim,)).copy()


class VectorSpace(Space):
    """A space of float64 vectors with optional bounds; needs no torch.

    Args:
        seeds: Known solutions by name; all of one length, which is the dimension.
        lower: Lower bounds, a number or shape ``(dim,)``; None for none.
        upper: Upper bounds, a number or shape ``(dim,)``; None for none.
        experts: Names of the seeds that are experts; none by default.

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
