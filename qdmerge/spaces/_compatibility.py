"""Can these models be merged? Answered from headers and configurations alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qdmerge.errors import CheckpointError
from qdmerge.spaces._adapter import Adapter, is_adapter
from qdmerge.spaces._checkpoint import Checkpoint, listing
from qdmerge.spaces._full import FullExpert, compare

Expert = FullExpert | Adapter


def checkpoint_problems(base: Path | None, experts: Mapping[str, Path]) -> list[str]:
    """List every reason why the experts cannot be merged on the base; empty if they can.

    Experts are whole checkpoints or LoRA adapters as peft saves them, mixed freely. Loads no
    tensor, no torch and no peft. Different float dtypes are no problem. Where the base cannot be
    looked at yet (None), each expert is examined by itself.
    """
    return open_all(base, experts)[2]


def open_all(
    base: Path | None, experts: Mapping[str, Path]
) -> tuple[Checkpoint | None, dict[str, Expert], list[str]]:
    """Open all models; return the base, the experts that opened, and all problems."""
    problems: list[str] = []
    if not experts:
        problems.append("no experts were given; merging needs at least one")
    if "base" in experts:
        problems.append("an expert cannot be named 'base'; that name is the base model's")
    reference = None
    try:
        if base is not None and is_adapter(Path(base)):
            raise CheckpointError(
                f"{base}: a LoRA adapter, which is no model by itself; name the model it adapts"
            )
        if base is not None:
            reference = _opened(base)
            problems += _unmergeable(reference)
    except CheckpointError as error:
        problems.append(f"base: {error}")
    usable: dict[str, Expert] = {}
    for name, path in experts.items():
        try:
            usable[name], found = _expert(reference, Path(path))
        except CheckpointError as error:
            problems.append(f"expert {name!r}: {error}")
        else:
            problems += [f"expert {name!r} ({path}): {problem}" for problem in found]
    return reference, usable, problems


def _expert(base: Checkpoint | None, path: Path) -> tuple[Expert, list[str]]:
    if is_adapter(path):
        return Adapter.open(path, base)
    checkpoint = _opened(path)
    return (FullExpert(checkpoint), []) if base is None else compare(base, checkpoint)


def _opened(path: Path) -> Checkpoint:
    checkpoint = Checkpoint.open(path)
    checkpoint.config()  # a damaged one is noticed now
    return checkpoint


def _unmergeable(base: Checkpoint) -> list[str]:
    problems = []
    # Other floats are codes that need scales (F8_E4M3 ...); a sum of codes means nothing.
    odd = [n for n, t in base.tensors.items() if not t.floating and t.dtype.startswith(("F", "C"))]
    if odd:
        problems.append(
            f"base ({base.path}): tensors in a quantized or complex format cannot be merged: "
            f"{listing(odd)}; convert to float16, bfloat16 or float32"
        )
    if not any(info.floating for info in base.tensors.values()):
        problems.append(f"base ({base.path}): holds no floating-point tensor to merge")
    return problems
