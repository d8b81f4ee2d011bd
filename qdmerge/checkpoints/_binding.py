"""Tensors of a live module, and the tensors of checkpoints that belong there."""

from __future__ import annotations

import torch

from qdmerge.checkpoints._checkpoint import listing
from qdmerge.checkpoints._task_vectors import TaskVectors
from qdmerge.errors import CheckpointError


def bind(vectors: TaskVectors, module: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Pair every tensor of the module with the checkpoint tensor that belongs there, or raise. Of a
    tensor's several names (tied weights) the first that the checkpoint holds counts.
    """
    shapes = vectors.shapes
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
            first, _ = paired.setdefault(id(place), (name, place))
            if not vectors.are_alike(first, name):
                problems.append(f"it ties {name} to {first}, the models hold other values there")
    extra = [name for name, place in places.items() if id(place) not in paired]
    if extra:
        problems.append(f"the checkpoint lacks {listing(extra)}")
    if problems:
        raise CheckpointError(
            f"{type(module).__name__} does not fit the checkpoint: {'; '.join(problems)}"
        )
    return list(paired.values())
