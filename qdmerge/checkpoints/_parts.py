"""Tensors of files and of the live models that they become."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Read = Callable[[str], "torch.Tensor"]
"""Returns a tensor of the files."""


@dataclass(frozen=True)
class Part:
    """Tensors of files that together become tensors of the model.

    Attributes:
        live: The (first) tensor of the model that they become.
        sources: Tensors of the files, each with the pattern of the transform that it matches.
        transform: What transformers does with them; None if nothing.
    """

    live: str
    sources: tuple[tuple[str, str], ...]
    transform: Any = None

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the tensors of the files."""
        return tuple(name for name, _ in self.sources)


@dataclass(frozen=True)
class Layout:
    """How a checkpoint's files become a model of transformers.

    Attributes:
        model: The model, without values (on device "meta").
        parts: Names of the model's tensors, to the part that each belongs to.
        shapes: Their shapes, as the files have them.
        aliases: Tensors that the model ties to another one, to the name of that one in ``parts``.
        apart: Tensors that the model would tie, but the files hold other values of.
        unused: Tensors of the files that the model has no place for.
        renamed: Name that transformers would look for in the model, of any name in files.
        lacking: What the files lack of the model, or have in other shapes.
        failed: What transformers cannot convert, or cannot write back.
    """

    model: Any
    parts: Mapping[str, Part]
    shapes: Mapping[str, tuple[int, ...]]
    aliases: Mapping[str, str]
    apart: tuple[str, ...]
    unused: tuple[str, ...]
    renamed: Callable[[str], str]
    lacking: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the files do not make the whole model."""
        return self.lacking + self.failed

    def live(self, part: Part, read: Read) -> dict[str, torch.Tensor]:
        """Return the model's tensors of a part by name."""
        return to_live(self.model, part, read)

    def stored(self, part: Part, live: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the files' tensors of a part by name: the inverse of :meth:`live`."""
        return to_files(self.model, part, live)

    def module(self, name: str) -> torch.nn.Module | None:
        """Return a module of the model; None if it has none of that name."""
        found: torch.nn.Module | None = dict(self.model.named_modules()).get(name)
        return found

    @property
    def used(self) -> set[str]:
        """The tensors of the files that the model consists of."""
        return {name for part in self.parts.values() for name in part.files}


def to_live(model: Any, part: Part, read: Read) -> dict[str, torch.Tensor]:
    """Return the model's tensors of a part by name, from those of the files."""
    if part.transform is None:
        return {part.live: read(part.files[0])}
    transform = copy.deepcopy(part.transform)
    for name, pattern in part.sources:
        transform.add_tensor(part.live, name, pattern, read(name))
    made = transform.convert(part.live, model=model, config=model.config)
    return {name: t[0] if isinstance(t, list) else t for name, t in made.items()}


def to_files(model: Any, part: Part, live: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the files' tensors of a part by name, from those of the model."""
    if part.transform is None:
        return {part.files[0]: live[part.live]}
    from transformers.core_model_loading import revert_weight_conversion

    def bare(name: str) -> str:  # whether files have this prefix is not the transform's business
        return name.removeprefix(f"{model.base_model_prefix}.")

    files = {bare(name): name for name in part.files}
    made = revert_weight_conversion(model, dict(live))
    return {files.get(bare(name), name): tensor for name, tensor in made.items()}
