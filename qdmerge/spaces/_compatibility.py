"""Can these checkpoints be merged? Answered from headers and configurations alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qdmerge.errors import CheckpointError
from qdmerge.spaces._checkpoint import Checkpoint, TensorInfo, listing


def checkpoint_problems(base: Path, experts: Mapping[str, Path]) -> list[str]:
    """List every reason why the experts cannot be merged on the base; empty if they can.

    Loads no tensor and no torch. Different float dtypes are no problem.
    """
    return open_all(base, experts)[2]


def open_all(
    base: Path, experts: Mapping[str, Path]
) -> tuple[Checkpoint | None, dict[str, Checkpoint], list[str]]:
    """Open all checkpoints; return the base, the experts that opened, and all problems."""
    problems: list[str] = []
    if not experts:
        problems.append("no experts were given; merging needs at least one")
    if "base" in experts:
        problems.append("an expert cannot be named 'base'; that name is the base model's")

    def opened(label: str, path: Path) -> Checkpoint | None:
        try:
            checkpoint = Checkpoint.open(path)
            checkpoint.config()
        except CheckpointError as error:
            problems.append(f"{label}: {error}")
            return None
        return checkpoint

    reference = opened("base", base)
    if reference is not None:
        problems += _unmergeable(reference)
    usable = {}
    for name, path in experts.items():
        expert = opened(f"expert {name!r}", path)
        if expert is None:
            continue
        usable[name] = expert
        if reference is not None:
            found = _differences(reference, expert)
            problems += [f"expert {name!r} ({expert.path}): {problem}" for problem in found]
    return reference, usable, problems


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


def _differences(base: Checkpoint, expert: Checkpoint) -> list[str]:
    problems = []
    ours, theirs = base.config().get("model_type"), expert.config().get("model_type")
    if ours and theirs and ours != theirs:
        problems.append(f"is a {theirs!r} model, the base is a {ours!r} model")
    missing = [name for name in base.tensors if name not in expert.tensors]
    if missing:
        problems.append(f"lacks tensors of the base: {listing(missing)}")
    extra = [name for name in expert.tensors if name not in base.tensors]
    if extra:
        problems.append(f"has tensors that the base lacks: {listing(extra)}")
    shared = [(n, base.tensors[n], expert.tensors[n]) for n in base.tensors if n in expert.tensors]
    shapes = [f"{n} {b.shape} -> {e.shape}" for n, b, e in shared if b.shape != e.shape]
    if shapes:
        problems.append(f"has tensors of other shapes (base -> expert): {listing(shapes)}")
    kinds = [f"{n} {b.dtype} -> {e.dtype}" for n, b, e in shared if _other_kind(b, e)]
    if kinds:
        problems.append(f"has tensors of another kind (base -> expert): {listing(kinds)}")
    return problems


def _other_kind(base: TensorInfo, expert: TensorInfo) -> bool:
    return base.floating != expert.floating
