"""The space of regression means: experts weighted by what layers receive from their data."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field, FiniteFloat, PositiveInt

from qdmerge.checkpoints._checkpoint import as_matrix
from qdmerge.checkpoints._sources import Progress, silent
from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.errors import ConfigError
from qdmerge.options import checked
from qdmerge.spaces._calibration import Calibration, data_key, in_blocks, measure_grams
from qdmerge.spaces._factors import FactorFile
from qdmerge.spaces._spectral import SpectralCoordinates, spectral_merge
from qdmerge.spaces._weights import Merger

_DECADES = 3
"""Powers of ten that the last coordinate reaches in both directions."""

_FLOOR = 1e-6
"""Least ridge per input: float32 inner products are exact to about a tenth of it."""


@dataclass(frozen=True)
class _Terms:
    """Precomputed terms of one tensor's models; float64, the base float32. ``right`` if the
    components are all of ``tau_k``, as in LoRA experts; else ``products``.
    """

    base: torch.Tensor
    grams: torch.Tensor  # G_k, (K, blocks, size, size)
    left: torch.Tensor  # U_k diag(s_k) side by side, (m, K r)
    weighted: torch.Tensor  # V_k^T G_k one above the other, (blocks, K r, size)
    right: torch.Tensor | None  # V_k^T likewise
    products: torch.Tensor | None  # tau_k G_k, (K, blocks, m, size)


@checked
class RegMeanSpace(SpectralCoordinates):
    """The moves of :class:`SpectralSpace`, weighted by what layers receive (RegMean).

    A linear merge moves every layer by the same task vectors whatever the layer receives. The
    regression mean is the matrix whose outputs are closest, in weighted least squares, to the
    outputs of each expert's own matrix on its own inputs (Jin et al. 2023, arXiv 2212.09849, eq.
    2). Here it is taken of the task vectors ``tau_k(x)`` that :class:`SpectralSpace` adds up::

        theta = theta_base + sum_k tau_k(x) (G_k + lambda) (sum_k p_k G_k + lambda)^-1

    for every weight, as a matrix, of a ``Linear`` or plain ``Conv2d`` layer; other tensors are
    merged linearly. ``G_k`` are the inner products of the layer's inputs under expert ``k``,
    scaled to a mean diagonal of 1; ``p_k`` is the mean absolute value of the expert's coordinates
    in this tensor (of components that it has, and of the rest), as a share of all experts'. The
    ``lambda`` on the diagonals is ``ridge`` times ten to the power of the last coordinate, and at
    least 1e-6 of the number of inputs, for float32's sake: the larger, the nearer to
    :class:`SpectralSpace`. The paper leaves ``G_k`` unscaled and shrinks their off-diagonals
    instead.

    Where a layer has more inputs than ``width``, ``G_k`` are blocks on the diagonal: inputs of
    different blocks count as independent. That bounds what large layers cost.

    An expert is itself exactly. With one weight for each expert, all together 1, a model is the
    regression mean with these weights; so linear merges of ``x`` keep the experts' scale.

    Per model, a measured layer costs a solve of each block, and, unless all fits into the task
    vectors' memory, the products ``tau_k G_k`` (not for LoRA experts of at most ``rank``). The
    cache holds, for every expert, a number for every pair of inputs of a block.

    Coordinates are those of :class:`SpectralCoordinates`, then one from -3 to 3.

    Args:
        vectors: The base and its experts.
        rank: Components kept of each expert's matrices, at least 1.
        ridge: What the last coordinate is relative to; above 0.
        examples: Most examples of each task on which its expert is measured.
        width: Most inputs of a block.
        cache: Folder that keeps what was measured; None for :func:`qdmerge.storage.cache_dir`.

    Raises:
        CheckpointError: If a task vector is not finite.
        RunError: If the cache cannot be written.
        ConfigError: If an argument is out of bounds.
    """

    name: ClassVar[str] = "regmean"
    differentiable: ClassVar[bool] = True

    def __init__(
        self,
        vectors: TaskVectors,
        rank: PositiveInt = 16,
        ridge: Annotated[FiniteFloat, Field(gt=0)] = 0.1,
        examples: PositiveInt = 128,
        width: PositiveInt = 2048,
        cache: Path | None = None,
    ) -> None:
        super().__init__(vectors, rank, cache, more=[(-_DECADES, _DECADES)])
        self.ridge = ridge
        self.examples = examples
        self.width = width
        self._cache = cache
        self._grams: FactorFile | None = None
        self._kept: dict[tuple[str, str], _Terms] = {}

    def regression_mean(
        self, weights: Sequence[float] | Mapping[str, float], ridge: float | None = None
    ) -> np.ndarray:
        """Return the ``x`` of the regression mean: one weight for all of an expert's coordinates.

        Args:
            weights: One weight per expert in order, or by name (missing names count as zero).
            ridge: ``lambda``; None for the space's own.

        Raises:
            ValueError: If the number of weights or a name does not fit the experts, or the ridge is
                not within three powers of ten of the space's own.
        """
        seeds = np.stack([self.seeds[name] for name in self.experts])
        x = self.expert_weights(weights) @ seeds
        given = self.ridge if ridge is None else ridge
        exponent = np.log10(given / self.ridge) if given > 0 else -np.inf
        if not abs(exponent) <= _DECADES + 1e-9:
            raise ValueError(
                f"expected a ridge within {_DECADES} powers of ten of the space's own "
                f"({self.ridge}); received {ridge}"
            )
        x[-1] = np.clip(exponent, -_DECADES, _DECADES)
        return self.check(x)

    def facts(self) -> dict[str, str]:
        """Return what decides, besides the models, what a solution means.

        Raises:
            ConfigError: See :meth:`ready`.
        """
        return {"calibration": self._data_key}

    @functools.cached_property
    def _data_key(self) -> str:
        return data_key(self.vectors, self._measurable(), self.examples, self.width)

    def ready(self) -> None:
        """Check that every expert can be measured.

        Raises:
            ConfigError: The backend does not let its experts be watched, or has no data for one.
        """
        self._measurable()

    def _measurable(self) -> Calibration:
        if self.calibration is None:
            raise ConfigError(
                f"space '{self.name}' measures what layers receive, which this backend does not "
                "offer; choose 'space: layer', 'spectral' or 'core'"
            )
        for expert in self.experts:
            if expert not in self.calibration.experts:
                raise ConfigError(
                    f"space '{self.name}' measures what layers receive on an expert's own task, "
                    f"but no task is that of expert '{expert}'; leave it out, or set 'expert: "
                    f"{expert}' in a task"
                )
        return self.calibration

    def warm_up(self, progress: Progress = silent) -> None:
        """Measure what layers receive, unless it is in the cache.

        Args:
            progress: Called with a stage, the experts done, and the experts in all.

        Raises:
            ConfigError: See :meth:`ready`; or no layer of the model can be measured.
            EvaluationError: An expert could not be run, or returns numbers that are not finite.
            RunError: The cache cannot be written.
        """
        self._inner_products(progress)

    def _inner_products(self, progress: Progress = silent) -> FactorFile:
        if self._grams is None:
            found = measure_grams(
                self.vectors,
                self._measurable(),
                self.examples,
                self.width,
                self._data_key,
                self._cache,
                progress,
            )
            if not found.shapes:
                raise ConfigError(
                    f"space '{self.name}' can measure no layer of this model: it measures Linear "
                    "and plain Conv2d; choose 'space: layer', 'spectral' or 'core'"
                )
            self._grams = found
        return self._grams

    def _merger(self, x: torch.Tensor) -> Merger:
        measured = self._measured
        ridge = self.ridge * 10 ** x[-1].double()

        def merged(name: str, device: torch.device | str) -> torch.Tensor:
            block = self._block(x, name)
            shares = self._shares(name, block) if name in measured else torch.zeros(0)
            # An expert alone is itself exactly, but moves with the others by their regression mean.
            if torch.count_nonzero(shares) < (1 if x.requires_grad else 2):
                return spectral_merge(self.vectors, self._factors, name, block, device)
            return self._regression(name, block, shares / shares.sum(), ridge.to(device), device)

        return merged

    def _shares(self, name: str, block: torch.Tensor) -> torch.Tensor:
        """Return the mean absolute value of every expert's coordinates in a tensor, float64."""
        real = torch.nn.functional.pad(
            self._factors.read(f"{name}/singular") > 0, (0, 1), value=True
        )
        sizes = block.double().abs() * real
        return sizes.sum(dim=1) / real.sum(dim=1)

    def _regression(
        self,
        name: str,
        block: torch.Tensor,
        shares: torch.Tensor,
        ridge: torch.Tensor,
        device: torch.device | str,
    ) -> torch.Tensor:
        """Return one merged tensor of which at least one expert has a share."""
        terms = self._terms(name, device)
        m, n = as_matrix(self.vectors.shapes[name])
        ridge = ridge.clamp_min(_FLOOR * n)  # of all inputs: one block may receive everything
        inner = torch.tensordot(shares.to(device), terms.grams, 1)
        inner.diagonal(dim1=1, dim2=2).add_(ridge)
        factor = torch.linalg.cholesky(inner)
        coordinates = block.double().to(device)
        multipliers, rest = coordinates[:, :-1], coordinates[:, -1]
        if terms.right is not None:  # solved for the components alone, which are few
            rows = torch.cholesky_solve((terms.weighted + ridge * terms.right).mT, factor).mT
            moved = (terms.left * multipliers.reshape(-1)) @ rows
        else:
            assert terms.products is not None
            products = torch.tensordot(rest, terms.products, 1)
            scale = (multipliers - rest[:, None]).reshape(-1)
            if scale.requires_grad or scale.any():
                products += (terms.left * scale) @ terms.weighted
            linear = spectral_merge(self.vectors, self._factors, name, block, device) - terms.base
            products += ridge * in_blocks(linear.view(m, n), self.width)
            moved = torch.cholesky_solve(products.mT, factor).mT
        moved = moved.movedim(0, 1).flatten(start_dim=1)[:, :n]
        return terms.base + moved.reshape(terms.base.shape).float()

    def _terms(self, name: str, device: torch.device | str) -> _Terms:
        """Return the terms of a tensor's models; kept if all fit into the vectors' budget."""
        key, measured = (name, str(device)), self._inner_products()
        if key not in self._kept:
            shape = as_matrix(self.vectors.shapes[name])
            found = [measured.read(f"{expert}/{name}", device) for expert in self.experts]
            grams = torch.stack(found).double()
            left, right = self._factors.sides(name, device)
            rows = in_blocks(right.double().view(len(self.experts), -1, shape[1]), self.width)
            products = None
            if not self._components_suffice(name):
                deltas = [self.vectors.delta(e, name).view(shape).to(device) for e in self.experts]
                products = in_blocks(torch.stack(deltas).double(), self.width) @ grams
            terms = _Terms(
                base=self.vectors.base(name).to(device, torch.float32),
                grams=grams,
                left=left.double(),
                weighted=(rows @ grams).movedim(1, 0).flatten(1, 2),
                right=rows.movedim(1, 0).flatten(1, 2) if products is None else None,
                products=products,
            )
            if not self._keeps:
                return terms
            self._kept[key] = terms
        return self._kept[key]

    def _components_suffice(self, name: str) -> bool:
        """Return whether the kept components are all that any expert can have of a tensor."""
        return all(self.vectors.rank(e, name) <= self._ranks[name] for e in self.experts)

    @functools.cached_property
    def _keeps(self) -> bool:
        """Whether the terms of all measured tensors fit into the budget."""
        numbers = 0.0
        for name in self._measured:
            m, n = as_matrix(self.vectors.shapes[name])
            more = self._ranks[name] if self._components_suffice(name) else m
            each = n * (min(n, self.width) + more) + self._ranks[name] * (m + n)
            numbers += len(self.experts) * each + m * n / 2
        return 8 * numbers <= self.vectors.memory

    @functools.cached_property
    def _measured(self) -> frozenset[str]:
        """The tensors whose layers' inputs were measured under every expert."""
        shapes = self._inner_products().shapes
        return frozenset(
            n for n in self.matrices if all(f"{e}/{n}" in shapes for e in self.experts)
        )
