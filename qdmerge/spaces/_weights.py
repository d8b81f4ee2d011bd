"""Spaces whose vectors are model weights: expression into a live module, and export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from qdmerge.checkpoints._binding import bind
from qdmerge.checkpoints._export import write_checkpoint
from qdmerge.checkpoints._sources import Progress, silent
from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.errors import CheckpointError, UnsupportedError, nearest
from qdmerge.spaces._base import Space
from qdmerge.spaces._calibration import Calibration

Merger = Callable[[str, torch.device | str], torch.Tensor]
"""Computes one merged tensor on a device; float32, or the base's own dtype where not floating."""


class WeightSpace(Space, ABC):
    """A space that maps ``x`` to the weights of a model, tensor by tensor.

    Solutions are float32. The base is at zero and every expert has its own ``x``. All arithmetic is
    done in float32 and then cast to the dtype of the place it is written to. Float buffers that the
    checkpoint holds are merged like any tensor; tensors that are not floating-point are the base's.

    Tensors may have any shape. Where a space needs matrices, a tensor of two or more dimensions is
    viewed as (first dimension) x (all others): a linear layer as ``out x in``, a convolution as
    ``out x in*kh*kw``, a transposed convolution as ``in x out*kh*kw``. Tensors of one or no
    dimension (norms, biases) are no matrices.

    Args:
        vectors: The base and its experts.
        expert_seeds: The experts' coordinates, shape ``(K, dim)``.
        lower: Lower bounds, a number or shape ``(dim,)``.
        upper: Upper bounds, a number or shape ``(dim,)``.

    Attributes:
        calibration: How to watch the experts at work; None where the backend does not offer it.
        differentiable: Whether gradients can be pulled back to ``x``; see :meth:`pullback`.
    """

    calibration: Calibration | None = None
    differentiable: ClassVar[bool] = False

    def __init__(
        self,
        vectors: TaskVectors,
        expert_seeds: np.ndarray,
        lower: npt.ArrayLike = -np.inf,
        upper: npt.ArrayLike = np.inf,
    ) -> None:
        self.vectors = vectors
        seeds = dict(zip(vectors.experts, expert_seeds, strict=True))
        super().__init__(
            seeds={"base": np.zeros(expert_seeds.shape[1]), **seeds},
            experts=vectors.experts,
            lower=lower,
            upper=upper,
            dtype=np.float32,
        )

    def expert_weights(self, weights: Sequence[float] | Mapping[str, float]) -> np.ndarray:
        """Return one weight per expert, ``(K,)`` float64, from a list or from names.

        Args:
            weights: One weight per expert in order, or by name (missing names count as zero).

        Raises:
            ValueError: If the number of weights or a name does not fit the experts.
        """
        if isinstance(weights, Mapping):
            unknown = [name for name in weights if name not in self.experts]
            if unknown:
                raise ValueError(f"expected weights of {list(self.experts)}; received {unknown}")
            weights = [weights.get(name, 0.0) for name in self.experts]
        values = np.asarray(weights, dtype=np.float64)
        if values.shape != (len(self.experts),):
            raise ValueError(
                f"expected one weight for each of {list(self.experts)}; "
                f"received shape {values.shape}"
            )
        return values

    def calibrate(self, calibration: Calibration) -> None:
        """Give the space a way to watch the experts at work; most spaces do not use it.

        Args:
            calibration: The live model and data of the experts' tasks.
        """
        self.calibration = calibration

    def facts(self) -> dict[str, str]:
        """Return what decides, besides the models, what a solution means; {} if nothing does."""
        return {}

    def ready(self) -> None:
        """Check that the space can produce models.

        Raises:
            ConfigError: The space needs to watch the experts at work, and the backend does not
                offer it.
        """

    def warm_up(self, progress: Progress = silent) -> None:
        """Compute what takes long and serves all models; most spaces have nothing of the kind.

        Without this call, the first model waits for it.

        Args:
            progress: Called with a stage, the steps done, and the steps in all.

        Raises:
            QDMergeError: The space cannot produce models.
        """

    @abstractmethod
    def _merger(self, x: torch.Tensor) -> Merger:
        """Return the function that computes the merged tensors of a valid ``x``: ``(dim,)``, on the
        CPU. Where ``x`` requires a gradient and the space is differentiable, so do the tensors.
        """

    def tensors(self, x: npt.ArrayLike) -> Iterator[tuple[str, torch.Tensor]]:
        """Stream the merged tensors, in the base's key order and dtypes, on the CPU.

        Raises:
            ValueError: At once, if ``x`` is no solution of this space.
        """
        merged, vectors = self._merger(self._coordinates(x)), self.vectors
        return ((name, merged(name, "cpu").to(dtype=vectors.dtype(name))) for name in vectors.names)

    @torch.no_grad()
    def express(self, x: npt.ArrayLike, module: torch.nn.Module) -> None:
        """Write the model of ``x`` into the live ``module``, in its own dtype and device.

        Nothing is written unless the module fits the checkpoint. Parameters that the module
        ties together are written once.

        Raises:
            CheckpointError: If module and checkpoint differ in names or shapes.
            ValueError: If ``x`` is no solution of this space.
        """
        merged = self._merger(self._coordinates(x))
        for name, target in bind(self.vectors, module):
            target.copy_(merged(name, target.device))

    @contextmanager
    def pullback(self, x: npt.ArrayLike, module: torch.nn.Module) -> Iterator[torch.Tensor]:
        """Pull gradients of a live module's weights back to ``x``, by the chain rule.

        The context yields a ``(dim,)`` float32 tensor on the CPU, zero at first. Every backward
        pass through the module within it adds the gradient of its loss with respect to ``x``::

            space.express(x, module)
            with space.pullback(x, module) as gradient:
                loss(module).backward()

        Each weight's own gradient is pulled back as soon as it is complete, in float32, and freed,
        so memory holds the gradient of one tensor at a time; weights that no expert changes get
        none. Weights that are tied count once, with the sum of their uses. Buffers have no
        gradient.

        Args:
            x: The solution that the module holds.
            module: The module.

        Raises:
            UnsupportedError: The space is not differentiable.
            CheckpointError: If module and checkpoint differ in names or shapes.
            ValueError: If ``x`` is no solution of this space.
        """
        self.check_differentiable()
        coordinates = self._coordinates(x).requires_grad_()
        total = torch.zeros(self.dim)

        def pull(name: str, parameter: torch.Tensor) -> None:
            gradient, parameter.grad = parameter.grad, None
            assert gradient is not None
            with torch.enable_grad():
                tensor = self._merger(coordinates)(name, gradient.device)
            if tensor.requires_grad:
                total.add_(torch.autograd.grad(tensor, coordinates, gradient.float())[0])

        bound = bind(self.vectors, module)
        weights = [(n, target) for n, target in bound if isinstance(target, torch.nn.Parameter)]
        before = [target.requires_grad for _, target in weights]
        hooks = []
        try:
            for name, target in weights:
                target.requires_grad_(self.vectors.is_changed(name)).grad = None
                if target.requires_grad:
                    hooks.append(target.register_post_accumulate_grad_hook(partial(pull, name)))
            yield total
        finally:
            for hook in hooks:
                hook.remove()
            for (_, target), required in zip(weights, before, strict=True):
                target.requires_grad_(required).grad = None

    def check_differentiable(self) -> None:
        """Check that gradients can be pulled back to ``x``.

        Raises:
            UnsupportedError: They cannot.
        """
        if not self.differentiable:
            raise UnsupportedError(
                f"space '{self.name}' has no gradient, so nothing can guide a search in it; use "
                "'space: core', 'spectral', 'layer', 'expert' or 'regmean', or '--search unguided'"
            )

    def _coordinates(self, x: npt.ArrayLike) -> torch.Tensor:
        """Return a valid ``x`` as a new tensor."""
        return torch.from_numpy(self.check(x))

    def export(
        self,
        x: npt.ArrayLike,
        path: Path,
        replace: Mapping[str, torch.Tensor] | None = None,
    ) -> Path:
        """Write the model of ``x`` as a standard checkpoint folder; one tensor is held at a time.

        Weights are safetensors in the base's dtypes, key order and shards; configuration,
        tokenizer and code files of the base's folder are copied beside them. A base that is a bare
        file becomes ``model.safetensors`` alone. The folder appears only when complete.

        Args:
            x: The solution.
            path: A folder that does not exist yet, or is empty.
            replace: Tensors by name to write instead of the merged ones, cast to the base's dtypes:
                statistics estimated anew after merging, for instance.

        Returns:
            The folder written.

        Raises:
            CheckpointError: If ``path`` exists and is not an empty folder, or cannot be written.
            ValueError: If ``x`` is no solution of this space, or ``replace`` has a name or shape
                that the base lacks; nothing is written then.
        """
        replace = replace or {}
        self._check_replacements(replace)
        merged, vectors = self._merger(self._coordinates(x)), self.vectors

        @torch.no_grad()
        def tensor(name: str) -> torch.Tensor:
            own = merged(name, "cpu").to(vectors.dtype(name))
            return replace.get(name, own).detach().to("cpu", own.dtype)

        return write_checkpoint(vectors.checkpoint, tensor, Path(path))

    def export_adapter(self, x: npt.ArrayLike, path: Path) -> Path:
        """Write the model of ``x`` as a LoRA adapter on the base; see :class:`LinearSpace`.

        Raises:
            CheckpointError: This space's merges are not of low rank.
        """
        raise CheckpointError(
            f"no LoRA adapter can hold a merge of the {self.name} space: it is no linear merge of "
            "the experts. Export it as a whole checkpoint instead (leave --adapter out)"
        )

    def _check_replacements(self, replace: Mapping[str, torch.Tensor]) -> None:
        shapes = self.vectors.shapes
        for name, tensor in replace.items():
            if name not in shapes:
                raise ValueError(
                    f"the base has no tensor {name!r} to replace{nearest(name, shapes)}"
                )
            if tuple(tensor.shape) != shapes[name]:
                raise ValueError(
                    f"the base's {name} has shape {shapes[name]}; received {tuple(tensor.shape)} "
                    "to replace it"
                )
