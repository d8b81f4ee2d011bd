"""Inner products of what layers receive under each expert, measured once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from qdmerge.checkpoints._binding import bind
from qdmerge.checkpoints._checkpoint import as_matrix
from qdmerge.checkpoints._sources import Progress, silent
from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.errors import EvaluationError
from qdmerge.spaces._factors import FactorFile
from qdmerge.storage import built_once, cache_dir, content_digest

VERSION = 3
"""Part of the cache key: raise it whenever the meaning of what is measured changes."""

_FILE = "grams.safetensors"


class Calibration(Protocol):
    """A backend's way to let a space watch its experts at work."""

    @property
    def module(self) -> torch.nn.Module:
        """The live model that experts are expressed into."""
        ...

    @property
    def experts(self) -> Collection[str]:
        """Names of the experts that have data."""
        ...

    def key(self, examples: int) -> str:
        """Return a key of everything that decides what the model sees: data, limits, dtype."""
        ...

    def passes(self, expert: str, examples: int) -> Iterable[Callable[[], object]]:
        """Return calls that send an expert's data through the live model, now that expert.

        Layers' inputs are measured only while a call runs; work before it, such as writing answers,
        may happen between the calls. Every position of every input counts, so avoid
        padding. Examples need no labels; take them from no split that models are scored on.

        Args:
            expert: One of :attr:`experts`.
            examples: Most examples of each of its tasks.
        """
        ...


def in_blocks(rows: torch.Tensor, width: int) -> torch.Tensor:
    """Divide ``(..., m, n)`` into the fewest blocks of one size, at most ``width`` columns, with
    zeros at the end: ``(..., blocks, m, size)``.
    """
    n = rows.shape[-1]
    if n <= width:
        return rows.unsqueeze(-3)
    blocks = -(-n // width)
    size = -(-n // blocks)
    padded = torch.nn.functional.pad(rows, (0, blocks * size - n))
    return padded.unflatten(-1, (blocks, size)).movedim(-2, -3)


def measure_grams(
    vectors: TaskVectors,
    calibration: Calibration,
    examples: int,
    width: int,
    key: str,
    cache: Path | None = None,
    progress: Progress = silent,
) -> FactorFile:
    """Return the inner products ``X^T X`` of layers' inputs, a row per position, measured once per
    models and data; tensor ``EXPERT/NAME`` is ``(blocks, size, size)``, see :func:`in_blocks`.
    """

    # Only layers whose weights no module of another kind uses (embeddings tied to the output). X
    # is of the expert's own model on its own data; the live model's weights are overwritten.
    def build(folder: Path) -> None:
        found: dict[str, torch.Tensor] = {}
        for number, expert in enumerate(vectors.experts):
            progress("measuring layers' inputs", number, len(vectors.experts))
            grams = _of_expert(vectors, number, calibration, examples, width)
            for name, gram in grams.items():
                if not torch.isfinite(gram).all():
                    raise EvaluationError(
                        f"expert '{expert}': what the layer of {name} receives is not finite, so "
                        "no regression mean can be computed; try 'dtype: float32'"
                    )
                diagonal = gram.diagonal(dim1=1, dim2=2).sum()
                inputs = as_matrix(vectors.shapes[name])[1]
                scale = (diagonal / inputs).clamp_min(torch.finfo(torch.float32).tiny)
                found[f"{expert}/{name}"] = (gram / scale).float().cpu().contiguous()
        progress("measuring layers' inputs", len(vectors.experts), len(vectors.experts))
        try:
            save_file(found, folder / _FILE)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    root = cache_dir() if cache is None else Path(cache)
    entry = built_once(root / "grams" / key, build, "Inner products of layers' inputs")
    return FactorFile(entry / _FILE, vectors.memory)


def data_key(vectors: TaskVectors, calibration: Calibration, examples: int, width: int) -> str:
    """Return a hash of all that decides the inner products: models, data, and their use."""
    models = [vectors.fingerprint, vectors.companions]
    return content_digest([*models, calibration.key(examples), width, VERSION])[:32]


def _of_expert(
    vectors: TaskVectors, number: int, calibration: Calibration, examples: int, width: int
) -> dict[str, torch.Tensor]:
    """Return blocks of ``X^T X`` by the weight's name, float64, under one expert."""
    expert = vectors.experts[number]
    weights = torch.eye(len(vectors.experts))[number]
    layers: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, target in bind(vectors, calibration.module):
            target.copy_(vectors.combine(name, weights, target.device))
        try:
            for run in calibration.passes(expert, examples):
                with _observed(vectors, calibration.module, layers, width):
                    run()
        except (OSError, RuntimeError) as error:  # errors of the cache are reported otherwise
            cause = str(error).split("\n")[0] or type(error).__name__
            raise EvaluationError(f"expert '{expert}' could not be run: {cause}") from error
    return layers


@contextmanager
def _observed(
    vectors: TaskVectors, module: torch.nn.Module, grams: dict[str, torch.Tensor], width: int
) -> Iterator[None]:
    """Add blocks of every measured layer's ``X^T X``, by its weight's name, as the model runs."""

    def hook(name: str) -> Callable[..., None]:
        def observe(
            layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, Any]
        ) -> None:
            received = inputs[0] if inputs else named["input"]
            rows = in_blocks(_rows(layer, received.detach().float()), width)
            gram = (rows.mT @ rows).double()
            grams[name] = grams[name] + gram if name in grams else gram

        return observe

    hooks = [
        layer.register_forward_pre_hook(hook(name), with_kwargs=True)
        for name, layer in _measured_layers(vectors, module)
    ]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


def _measured_layers(
    vectors: TaskVectors, module: torch.nn.Module
) -> list[tuple[str, torch.nn.Module]]:
    """Return the measured layers, with the names of their weights."""
    names = {id(tensor): name for name, tensor in bind(vectors, module)}
    others = {
        id(parameter)
        for layer in module.modules()
        if not _measurable(layer)
        for parameter in layer.parameters(recurse=False)
    }
    return [
        (names[id(layer.weight)], layer)
        for layer in module.modules()
        if _measurable(layer)
        and id(layer.weight) in names
        and id(layer.weight) not in others
        and vectors.is_changed(names[id(layer.weight)])
    ]


def _measurable(layer: torch.nn.Module) -> bool:
    """Return whether the layer multiplies its weight, as a matrix, with rows of its input."""
    if isinstance(layer, torch.nn.Conv2d):
        plain = layer.groups == 1 and layer.padding_mode == "zeros"
        return plain and not isinstance(layer.padding, str)
    return isinstance(layer, torch.nn.Linear)


def _rows(layer: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the rows that the weight is multiplied with: ``(positions, n)``."""
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
