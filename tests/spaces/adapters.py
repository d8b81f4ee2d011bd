"""LoRA adapters on disk, written as peft writes them, for tests that need no peft."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.spaces.conftest import SHAPES, Tensors, Trio, draw

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["attn"]}


def write_adapter(path: Path, tensors: Tensors, **config: Any) -> Path:
    """Write a folder; tensors by peft's names without their common prefix."""
    path.mkdir(parents=True)
    (path / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    named = {f"base_model.model.{name}": t.contiguous() for name, t in tensors.items()}
    save_file(named, path / "adapter_model.safetensors", metadata={"format": "pt"})
    return path


def draw_lora(shapes: Mapping[str, tuple[int, ...]], rank: int, seed: int) -> Tensors:
    """Factors for modules of these weight shapes."""
    named = {}
    for module, (out, *rest) in shapes.items():
        named[f"{module}.lora_A.weight"] = (rank, *rest)
        named[f"{module}.lora_B.weight"] = (out, rank, *(1 for _ in rest[1:]))
    return draw(named, seed)


def dense_lora(tensors: Tensors, module: str, scale: float) -> torch.Tensor:
    """``scale * B A`` in float64, in the shape of the base's tensor."""
    a, b = (tensors[f"{module}.lora_{which}.weight"].double() for which in "AB")
    return (scale * b.flatten(1) @ a.flatten(1)).view(b.shape[0], *a.shape[1:])


LORA_SHAPES = {n.removesuffix(".weight"): SHAPES[n] for n in SHAPES if len(SHAPES[n]) >= 2}


def with_adapters(trio: Trio, root: Path, ranks: Mapping[str, int], full: int = 0) -> Trio:
    """The trio's base with adapters of these ranks on some of its matrices, and full experts.

    Every adapter leaves out one matrix; all of them leave the norm and the buffers alone.
    """
    experts = dict(list(trio.experts.items())[:full])
    paths = {name: trio.expert_paths[name] for name in experts}
    for i, (name, rank) in enumerate(ranks.items()):
        left_out = list(LORA_SHAPES)[i % 3]
        shapes = {m: s for m, s in LORA_SHAPES.items() if m != left_out}
        tensors = draw_lora(shapes, rank, 40 + i)
        paths[name] = write_adapter(root / name, tensors, r=rank, lora_alpha=2 * rank)
        changed = {f"{m}.weight": dense_lora(tensors, m, 2.0).float() for m in shapes}
        experts[name] = {n: t + changed.get(n, torch.zeros(())) for n, t in trio.base.items()}
        experts[name]["layers.1.steps"] = trio.base["layers.1.steps"]
    return Trio(trio.base, experts, trio.base_path, paths)
