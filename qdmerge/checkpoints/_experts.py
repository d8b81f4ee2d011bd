"""A base and its experts, whole checkpoints or adapters: opened, and checked to fit."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qdmerge.checkpoints._adapter import Adapter, LowRank, is_adapter
from qdmerge.checkpoints._checkpoint import Checkpoint, findings, listing
from qdmerge.checkpoints._configuration import differences, other_computation, quantized
from qdmerge.checkpoints._layout import as_loaded
from qdmerge.checkpoints._names import is_embedding, is_head, ties, vocabulary_change
from qdmerge.checkpoints._values import not_finite
from qdmerge.errors import CheckpointError

if TYPE_CHECKING:
    import torch


OTHER_VOCABULARY = "has another vocabulary (base -> expert)"
"""How :func:`checkpoint_problems` begins to tell that embeddings have other numbers of rows."""

_NUMBERED = re.compile(r"\.\d+\..*\.\d+\.")
"""A module of many within a layer, such as one expert of a mixture: transformers may fuse them."""


@dataclass(frozen=True)
class FullExpert:
    """A whole model; ``tied`` maps tensors that it omits to its own of the same values."""

    checkpoint: Checkpoint
    tied: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that decide what the expert is."""
        return self.checkpoint.files

    def read(self, name: str) -> torch.Tensor:
        """Return the expert's tensor under one of the base's names, in its own dtype."""
        return self.checkpoint.read(self.tied.get(name, name))


def full_expert(
    base: Checkpoint, checkpoint: Checkpoint, allowed: Collection[str] = ()
) -> tuple[FullExpert, list[str]]:
    """Return the expert in a checkpoint, and everything that prevents merging it on the base."""
    ours, theirs = _kind(base), _kind(checkpoint)
    if ours and theirs and ours != theirs:
        return FullExpert(checkpoint), [f"is a {theirs!r} model, the base is a {ours!r} model"]
    tied, surplus, problems = _tying(base, checkpoint)
    untied = list(problems)
    missing = [n for n in base.tensors if n not in checkpoint.tensors and n not in tied]
    extra = [n for n in checkpoint.tensors if n not in base.tensors and n not in surplus]
    if base.layout and checkpoint.layout:
        problems += checkpoint.layout.failed
        extra += [n for n in checkpoint.layout.unused if n not in base.layout.unused]
    if untied:  # reported already
        missing = [name for name in missing if not is_head(name)]
        extra = [name for name in extra if not is_head(name)]
    pairs = {n: tied.get(n, n) for n in base.tensors}
    shared = [
        (n, base.tensors[n], checkpoint.tensors[pairs[n]])
        for n in base.tensors
        if pairs[n] in checkpoint.tensors
    ]
    odd = {n: (b.shape, e.shape) for n, b, e in shared if b.shape != e.shape}
    rows = {n: vocabulary_change(base, n, e) for n, (_, e) in odd.items()}
    shapes = [f"{n} {b} -> {e}" for n, (b, e) in odd.items() if not rows[n]]
    kinds = [f"{n} {b.dtype} -> {e.dtype}" for n, b, e in shared if b.floating != e.floating]
    problems += findings(
        {
            "lacks tensors of the base": missing,
            "has tensors that the base lacks": extra,
            OTHER_VOCABULARY: [text for text in rows.values() if text],
            "has tensors of other shapes (base -> expert)": shapes,
            "has tensors of another kind (base -> expert)": kinds,
        }
    )
    return FullExpert(checkpoint, tied), problems or other_computation(base, checkpoint, allowed)


def _tying(base: Checkpoint, expert: Checkpoint) -> tuple[dict[str, str], set[str], list[str]]:
    """Return output layers tied to the embedding, ones to ignore, and differences in tying: a model
    that ties its output layer to its input embedding may store it or not.
    """
    if base.layout and expert.layout:
        return _live_tying(base, expert, base.layout.aliases, expert.layout.aliases)
    ours, theirs = ties(base.config()), ties(expert.config())
    ours, theirs = (theirs if ours is None else ours), (ours if theirs is None else theirs)
    missing = [n for n in base.tensors if is_head(n) and n not in expert.tensors]
    extra = [n for n in expert.tensors if is_head(n) and n not in base.tensors]
    if ours != theirs or (extra and not theirs):
        does = "ties" if theirs else "does not tie"
        return (
            {},
            set(),
            [
                f"{does} its output layer to its input embedding (tie_word_embeddings), the base "
                f"{'does not' if theirs else 'does'}; both must be alike"
                + (f" ({listing(missing + extra)})" if missing + extra else "")
            ],
        )
    inputs = [n for n in expert.tensors if is_embedding(n)]
    tied = dict.fromkeys(missing, inputs[0]) if theirs and len(inputs) == 1 else {}
    return tied, set(extra), []


def _live_tying(
    base: Checkpoint, expert: Checkpoint, ours: Mapping[str, str], theirs: Mapping[str, str]
) -> tuple[dict[str, str], set[str], list[str]]:
    """Do the same where the model that each becomes, and its values, say what is tied."""
    tied = {n: theirs[n] for n in base.tensors if n not in expert.tensors and n in theirs}
    apart = [n for n in expert.tensors if ours.get(n) in expert.tensors]
    found = [
        f"does not tie {name} to {ours[name]}: its file holds other values; the base ties them, "
        "and both must be alike"
        for name in apart
    ]
    return tied, {n for n in expert.tensors if n in ours}, found


def _kind(checkpoint: Checkpoint) -> str | None:
    """Return the class of the live model if it is known, else what config.json says."""
    if checkpoint.layout:
        return str(checkpoint.layout.model.config.model_type)
    return checkpoint.config().get("model_type")


Expert = FullExpert | Adapter


def checkpoint_problems(
    base: Path | None, experts: Mapping[str, Path], config_differences: Collection[str] = ()
) -> list[str]:
    """List every reason why the experts cannot be merged on the base; empty if they can.

    Experts are whole checkpoints or LoRA adapters as peft saves them, mixed freely; float dtypes
    may differ. Headers and values are read, without torch or peft; transformers is only asked where
    files differ. Without a base (None: it does not exist yet), each expert is checked by itself.

    Args:
        base: The base.
        experts: The experts by name.
        config_differences: Entries of ``config.json`` that experts may have otherwise than the
            base, although the forward pass uses them.
    """
    reference, models, problems = _open(base, experts, config_differences, live=False)
    if base is None or (not problems and reference and not _uncertain(reference, models)):
        return problems
    return open_all(base, experts, config_differences)[2]


def open_all(
    base: Path | None, experts: Mapping[str, Path], config_differences: Collection[str] = ()
) -> tuple[Checkpoint | None, dict[str, Expert], list[str]]:
    """Open all models, as transformers loads them where it does; return the base, the experts that
    opened, and all problems.
    """
    return _open(base, experts, config_differences, live=True)


def _open(
    base: Path | None, experts: Mapping[str, Path], allowed: Collection[str], live: bool
) -> tuple[Checkpoint | None, dict[str, Expert], list[str]]:
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
            if live:
                loaded = as_loaded(reference)
                sound = loaded.layout is not None and not loaded.layout.problems
                reference = loaded if sound else reference
            problems += _unmergeable(reference)
            problems += [f"base ({base}): {line}" for line in _values(reference)]
    except CheckpointError as error:
        problems.append(f"base: {error}")
    usable: dict[str, Expert] = {}
    for name, path in experts.items():
        try:
            usable[name], found = _expert(reference, Path(path), allowed)
            half = isinstance(usable[name], FullExpert) and _is_half(reference)
            found += _values(usable[name].checkpoint, half)
        except CheckpointError as error:
            problems.append(f"expert {name!r}: {error}")
        else:
            problems += [f"expert {name!r} ({path}): {problem}" for problem in found]
    return reference, usable, problems


def _uncertain(base: Checkpoint, experts: Mapping[str, Expert]) -> bool:
    """Return whether only transformers can tell what fits: what is tied, and what it takes for
    entries that one configuration leaves out.
    """
    whole = [base, *(e.checkpoint for e in experts.values() if isinstance(e, FullExpert))]
    configs = [config for one in whole if (config := one.config())]
    if base.config() and any(differences(base.config(), config) for config in configs):
        return base.config().get("model_type") is not None
    if any(ties(one.config()) is not False and any(map(is_head, one.tensors)) for one in whole):
        return base.config().get("model_type") is not None
    changes = [
        (n, c) for e in experts.values() if isinstance(e, Adapter) for n, c in e.changes.items()
    ]
    return any(
        not isinstance(c, LowRank) or c.embedding or is_head(n) or _NUMBERED.search(n)
        for n, c in changes
    )


def _expert(
    base: Checkpoint | None, path: Path, allowed: Collection[str]
) -> tuple[Expert, list[str]]:
    if is_adapter(path):
        return Adapter.open(path, base)
    checkpoint = _opened(path)
    if base is None:
        return FullExpert(checkpoint), []
    if base.layout is not None:
        checkpoint = as_loaded(checkpoint, base)
    return full_expert(base, checkpoint, allowed)


def _values(checkpoint: Checkpoint, half: bool = False) -> list[str]:
    return not_finite(checkpoint.files, checkpoint.used, half)


def _is_half(base: Checkpoint | None) -> bool:
    """Return whether merged models are written in float16, whose largest value is 65504."""
    return base is not None and any(info.dtype == "F16" for info in base.tensors.values())


def _opened(path: Path) -> Checkpoint:
    checkpoint = Checkpoint.open(path)
    checkpoint.config()  # raises if it is damaged
    if problem := quantized(checkpoint):
        raise CheckpointError(f"{path}: {problem}")
    return checkpoint


def _unmergeable(base: Checkpoint) -> list[str]:
    problems = []
    # Quantized floats are codes that need scales (F8_E4M3 ...); a sum of codes means nothing.
    odd = [n for n, t in base.tensors.items() if not t.floating and t.dtype.startswith(("F", "C"))]
    if odd:
        problems.append(
            f"base ({base.path}): tensors in a quantized or complex format cannot be merged: "
            f"{listing(odd)}; convert to float16, bfloat16 or float32"
        )
    if not any(info.floating for info in base.tensors.values()):
        problems.append(f"base ({base.path}): holds no floating-point tensor to merge")
    return problems
