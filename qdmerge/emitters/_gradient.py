"""pyribs' gradient emitters, with steps in the units of a space."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field
from ribs.archives import ArchiveBase
from ribs.emitters import EmitterBase, GradientArborescenceEmitter, GradientOperatorEmitter

from qdmerge.guide import Slopes
from qdmerge.options import checked

if TYPE_CHECKING:
    from qdmerge.emitters._build import EmitterSpec
    from qdmerge.spaces import Space


class _InUnits(EmitterBase):
    """Slopes per unit of each coordinate, of root mean square 1; solutions within the bounds."""

    slopes: Slopes
    _space: Space

    @functools.cached_property
    def _units(self) -> np.ndarray:
        return self._space.units.astype(np.float64)

    def ask_dqd(self) -> np.ndarray:
        return self._within(super().ask_dqd())

    def ask(self) -> np.ndarray:
        return self._within(super().ask())

    def tell_dqd(self, *args: Any, jacobian: np.ndarray, **told: Any) -> None:
        slopes = self._units * jacobian
        size = np.sqrt(np.mean(slopes**2, axis=2, keepdims=True))
        steps = self._units * np.divide(slopes, size, out=np.zeros_like(slopes), where=size > 0)
        super().tell_dqd(*args, jacobian=steps.astype(self._space.dtype), **told)

    def _within(self, x: np.ndarray) -> np.ndarray:
        inside: np.ndarray = np.clip(x, self._space.lower_bounds, self._space.upper_bounds)
        return inside.astype(self._space.dtype)


@checked
class GradientArborescence(_InUnits, GradientArborescenceEmitter):
    """CMA-MEGA (arXiv 2106.03894): branches along the slopes of all scores at one point.

    Each turn asks for the slopes at the point; children are the point plus a weighted sum of them,
    and a small evolution strategy, of one weight for each score and measure, learns which weights
    fill the archive. With an archive that has a learning rate this is CMA-MAEGA
    (arXiv 2305.13795).

    Slopes are per unit of the space and scaled to a root mean square of 1 over coordinates, so
    that a weight is the mean step of a coordinate in units. In large spaces slopes lie in few
    coordinates, and weights are far below a climb's rate. Children are clipped to the bounds.

    Args:
        archive: Archive of the active task.
        spec: What the search provides; the point begins at the space's ``x0``.
        sigma0: Standard deviation of the weights at first, in units of the space.
        lr: How far the point moves: 1 is to the mean of the children that entered the archive; for
            "adam" the step of each coordinate, in units.
        grad_opt: How it moves.
        ranker: Order of the children; see :mod:`ribs.emitters.rankers`.
        selection_rule: Whether all children that enter the archive count, or the better half.
        restart_rule: When to begin anew at an elite; see
            :class:`ribs.emitters.GradientArborescenceEmitter`.
        es: Evolution strategy of the weights; see :mod:`ribs.emitters.opt`.
        batch_size: Children per ask, beside the point itself; None for what the evolution strategy
            prefers.
        slopes_batch: Unlabeled items that slopes look at, over all tasks.

    Raises:
        ConfigError: An option is out of bounds.
    """

    def __init__(
        self,
        archive: ArchiveBase,
        spec: EmitterSpec,
        *,
        sigma0: Annotated[float, Field(gt=0)] = 0.01,
        lr: Annotated[float, Field(gt=0)] = 1.0,
        grad_opt: Literal["gradient_ascent", "adam"] = "gradient_ascent",
        ranker: str = "2imp",
        selection_rule: Literal["filter", "mu"] = "filter",
        restart_rule: Annotated[int, Field(ge=1)] | Literal["no_improvement", "basic"] = (
            "no_improvement"
        ),
        es: str = "cma_es",
        batch_size: Annotated[int, Field(ge=2)] | None = None,
        slopes_batch: Annotated[int, Field(ge=1)] = 96,
    ) -> None:
        self._space, self.slopes = spec.space, Slopes(slopes_batch)
        super().__init__(
            archive,
            x0=spec.space.x0,
            sigma0=sigma0,
            lr=lr * self._units if grad_opt == "adam" else lr,
            grad_opt=grad_opt,
            ranker=ranker,
            selection_rule=selection_rule,
            restart_rule=restart_rule,
            es=es,
            normalize_grad=False,
            batch_size=batch_size,
            seed=spec.seed,
        )


@checked
class GradientOperator(_InUnits, GradientOperatorEmitter):
    """OMG-MEGA (arXiv 2106.03894): elites move along a random sum of the slopes of all scores.

    Each turn asks for the slopes at elites; each child is one of them plus a weighted sum of its
    slopes, in which the weight of the active task's score is never negative. Slopes are scaled as
    in :class:`GradientArborescence`. Children are clipped to the bounds.

    Args:
        archive: Archive of the active task; elites come from it.
        spec: What the search provides.
        sigma_g: Standard deviation of the weights, in units of the space.
        sigma: Standard deviation of noise on the elites before slopes are asked for, in units.
        line_sigma: Standard deviation of their step along the line to another elite, relative to
            its length; 0 for none.
        measure_gradients: Whether children move along the slopes of measures; else by ``sigma_g``
            along that of the active task's score alone.
        batch_size: Elites per turn, each with one child.
        slopes_batch: Unlabeled items that slopes look at, over all tasks.

    Raises:
        ConfigError: An option is out of bounds.
    """

    def __init__(
        self,
        archive: ArchiveBase,
        spec: EmitterSpec,
        *,
        sigma_g: Annotated[float, Field(gt=0)] = 0.01,
        sigma: Annotated[float, Field(ge=0)] = 0.0,
        line_sigma: Annotated[float, Field(ge=0)] = 0.0,
        measure_gradients: bool = True,
        batch_size: Annotated[int, Field(ge=1)] = 1,
        slopes_batch: Annotated[int, Field(ge=1)] = 96,
    ) -> None:
        self._space, self.slopes = spec.space, Slopes(slopes_batch)
        super().__init__(
            archive,
            sigma=sigma * self._units,
            sigma_g=sigma_g,
            x0=spec.space.x0,
            line_sigma=line_sigma,
            operator_type="iso_line_dd" if line_sigma else "isotropic",
            measure_gradients=measure_gradients,
            batch_size=batch_size,
            seed=spec.seed,
        )
