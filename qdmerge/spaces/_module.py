"""Finding the place of every checkpoint tensor in a live module."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from qdmerge.errors import CheckpointError
from qdmerge.spaces._checkpoint import listing


def bind(
    shapes: Mapping[str, tuple[int, ...]], module: torch.nn.Module
) -> list[tuple[str, torch.Tensor]]:
    """Pair every tensor of the module with the checkpoint tensor that belongs there.

    A tensor that the module knows under several names (tied weights) is paired once: with the
    first of its names, in the module's order, that the checkpoint holds. For transformers'
    models that is the input embedding, as when they are loaded.

    Raises:
        CheckpointError: If the module lacks a checkpoint tensor or has one of another shape, or
            if one of its own (parameter or persistent buffer) is nowhere in the checkpoint.
    """
    places = {n: t for n, t in module.state_dict(keep_vars=True).items() if torch.is_tensor(t)}
    if any(name not in places for name in shapes):  # the checkpoint may hold transient buffers
        places |= {n: b for n, b in module.named_buffers(remove_duplicate=False) if n in shapes}
    problems = []
    missing = [name for name in shapes if name not in places]
    if missing:
        problems.append(f"the module lacks {listing(missing)}")
    odd = [
        f"{name} is {tuple(places[name].shape)}, the checkpoint has {shape}"
        for name, shape in shapes.items()
        if name in places and places[name].shape != shape
    ]
    if odd:
        problems.append(f"shapes differ: {listing(odd)}")
    paired: dict[int, tuple[str, torch.Tensor]] = {}
    for name, place in places.items():
        if name in shapes:
            paired.setdefault(id(place), (name, place))
    extra = [name for name, place in places.items() if id(place) not in paired]
    if extra:
        problems.append(f"the checkpoint lacks {listing(extra)}")
    if problems:
        raise CheckpointError(
            f"{type(module).__name__} does not fit the checkpoint: {'; '.join(problems)}"
        )
    return list(paired.values())
