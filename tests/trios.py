"""Small real models on disk: a base and three experts, whole checkpoints or LoRA adapters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from qdmerge.checkpoints import TaskVectors
from qdmerge.spaces import (
    CoreSpace,
    DenseSpace,
    ExpertSpace,
    LayerSpace,
    SpectralSpace,
    WeightSpace,
)

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Trio:
    """A base and three experts: what was written, and where."""

    base: Tensors
    experts: dict[str, Tensors]
    base_path: Path
    expert_paths: dict[str, Path]

    def vectors(self, **options: int) -> TaskVectors:
        return TaskVectors(self.base_path, self.expert_paths, **options)

    def dense(self, weights: Mapping[str, float], name: str) -> torch.Tensor:
        """``theta_base + sum_k w_k tau_k`` in float64, straight from the definition."""
        base = self.base[name].double()
        return base + sum(w * (self.experts[k][name].double() - base) for k, w in weights.items())


def write(path: Path, tensors: Tensors, shards: int = 0, config: dict | None = None) -> Path:
    """Write a checkpoint folder; ``shards`` > 0 splits it and adds an index."""
    path.mkdir(parents=True)
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    if not shards:
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        return path
    weight_map = {}
    for i in range(shards):
        part = dict(list(tensors.items())[i::shards])
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, path / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def draw(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(shape, generator=generator) for n, shape in shapes.items()}


SHAPES = {
    "embed.weight": (12, 8),
    "layers.0.attn.weight": (8, 8),
    "layers.0.norm.weight": (8,),
    "layers.1.conv.weight": (4, 3, 2, 2),
    "layers.1.running_mean": (4,),
    "scale": (),
    "head.weight": (6, 8),
}


@pytest.fixture(scope="session")
def make_trio(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trio]:
    def make(
        shapes: Mapping[str, tuple[int, ...]] = SHAPES,
        dtype: torch.dtype = torch.float32,
        names: tuple[str, ...] = ("coding", "db", "os"),
        shards: int = 0,
        seed: int = 0,
    ) -> Trio:
        root = tmp_path_factory.mktemp("trio")
        models = {}
        for i, name in enumerate(("base", *names)):
            tensors = {n: t.to(dtype) for n, t in draw(shapes, 100 * seed + i).items()}
            # A counter, as batch normalization has one; never merged.
            models[name] = tensors | {"layers.1.steps": torch.tensor([7 + i, 8, 9])}
        paths = {k: write(root / k, t, shards if k == "base" else 0) for k, t in models.items()}
        base = models.pop("base")
        return Trio(base, models, paths.pop("base"), paths)

    return make


@pytest.fixture(scope="session")
def trio(make_trio: Callable[..., Trio]) -> Trio:
    return make_trio()


@pytest.fixture(scope="session")
def make_space(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., WeightSpace]:
    """Any weight space by name, with a factor cache of this session's own."""
    cache = tmp_path_factory.mktemp("cache")

    def make(kind: str, vectors: TaskVectors, rank: int = 3) -> WeightSpace:
        if kind in ("spectral", "core"):
            return {"spectral": SpectralSpace, "core": CoreSpace}[kind](vectors, rank, cache)
        return {"expert": ExpertSpace, "layer": LayerSpace, "dense": DenseSpace}[kind](vectors)

    return make


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
