"""What layers receive when the experts work: inner products of their inputs, measured once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file

from qdmerge.cache import built_once, cache_dir
from qdmerge.spaces._factor_file import FactorFile
from qdmerge.spaces._module import bind
from qdmerge.spaces._task_vectors import TaskVectors

#: Part of the cache key: raise it whenever the meaning of what is measured changes.
VERSION = 1
_FILE = "grams.safetensors"


class Calibration(Protocol):
    """How a backend lets a space see its experts at work."""

    @property
    def module(self) -> torch.nn.Module:
        """The live model that experts are expressed into."""
        ...

    @property
    def experts(self) -> Collection[str]:
        """The experts that there is data for."""
        ...

    def key(self, examples: int) -> str:
        """Stands for everything that decides what the model sees: data, limits, number type."""
        ...

    def run(self, expert: str, examples: int) -> None:
        """Runs the live model on at most so many examples of each of this expert's tasks.

        They need no labels, and had better be of no split that models are scored on.
        """
        ...


def measure_grams(
    vectors: TaskVectors, calibration: Calibration, examples: int, cache: Path | None = None
) -> FactorFile:
    """The inner products of layers' inputs, measured once for each set of models and data.

    Every linear and plain 2-D convolutional layer whose weight is merged is measured. Tensor
    ``"EXPERT/NAME"`` is ``X^T X`` divided by the mean of its diagonal, float32 ``(n, n)``: ``X``
    holds what the layer with the weight ``NAME``, ``m x n`` as a matrix, received from the expert's
    own model on the expert's own data, a row per position. The live model is left with other
    weights.

    Args:
        vectors: The base and its experts.
        calibration: The live model and its data.
        examples: Most examples of each task.
        cache: Folder of the cache; None for :func:`qdmerge.cache.cache_dir`.

    Raises:
        CheckpointError: The live model does not fit the checkpoint.
        RunError: The cache cannot be written.
    """

    def build(folder: Path) -> None:
        found: dict[str, torch.Tensor] = {}
        for number, expert in enumerate(vectors.experts):
            weights = torch.eye(len(vectors.experts))[number]
            with torch.no_grad():
                for name, target in bind(vectors.shapes, calibration.module):
                    target.copy_(vectors.combine(name, weights, target.device))
                with _observed(vectors, calibration.module) as grams:
                    calibration.run(expert, examples)
            for name, gram in grams.items():
                scale = gram.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
                found[f"{expert}/{name}"] = (gram / scale).float().cpu().contiguous()
        save_file(found, folder / _FILE)

    identity = f"{vectors.fingerprint} {calibration.key(examples)} {VERSION}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:32]
    root = cache_dir() if cache is None else Path(cache)
    entry = built_once(root / "grams" / name, build, "Inner products of layers' inputs")
    return FactorFile(entry / _FILE, vectors.memory)


@contextmanager
def _observed(vectors: TaskVectors, module: torch.nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Sums up ``X^T X`` of every measured layer, by its weight's name, while the model runs."""
    grams: dict[str, torch.Tensor] = {}
    names = {id(tensor): name for name, tensor in bind(vectors.shapes, module)}

    def hook(name: str) -> Callable[[Any, Any], None]:
        def observe(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = _rows(layer, inputs[0].detach().float())
            gram = (rows.T @ rows).double()
            grams[name] = grams[name] + gram if name in grams else gram

        return observe

    hooks = [
        layer.register_forward_pre_hook(hook(names[id(layer.weight)]))
        for layer in module.modules()
        if _measurable(layer) and vectors.touched(names.get(id(layer.weight), vectors.names[0]))
    ]
    try:
        yield grams
    finally:
        for each in hooks:
            each.remove()


def _measurable(layer: torch.nn.Module) -> bool:
    """Whether the layer multiplies its weight, as a matrix, with rows of its input."""
    if isinstance(layer, torch.nn.Conv2d):
        plain = layer.groups == 1 and layer.padding_mode == "zeros"
        return plain and not isinstance(layer.padding, str)
    return isinstance(layer, torch.nn.Linear)


def _rows(layer: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """What the weight is multiplied with: ``(positions, n)``."""
    if not isinstance(layer, torch.nn.Conv2d):
        return inputs.reshape(-1, inputs.shape[-1])
    patches = torch.nn.functional.unfold(
        inputs,
        layer.kernel_size,
        layer.dilation,
        layer.padding,  # type: ignore[arg-type]  # _measurable() refuses text
        layer.stride,
    )
    return patches.transpose(1, 2).flatten(end_dim=1)
