"""Adapters on a base: which of its layers get one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qdmerge.errors import ConfigError, nearest
from qdmerge_llm.training._config import LoRAConfig

if TYPE_CHECKING:
    import torch

ALL = "all-linear"


def with_adapters(model: Any, settings: LoRAConfig) -> Any:
    """Return ``model`` with float32 adapters, the only parameters that are trained.

    Raises:
        ConfigError: If the settings name a layer that the model lacks, or that cannot be adapted.
    """
    from peft import LoraConfig, get_peft_model

    targets: str | list[str] = ALL
    if settings.targets != ALL:
        named = settings.targets
        targets = [named] if isinstance(named, str) else list(named)
        _check(model, targets)
    adapters = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
    )
    return get_peft_model(model, adapters, autocast_adapter_dtype=True)


def _check(model: torch.nn.Module, targets: Sequence[str]) -> None:
    """See that every target is a layer that can be adapted, and merged afterwards."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds = (nn.Linear, nn.Embedding, Conv1D)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, kinds)}
    owners: dict[int, list[str]] = {}
    for name, layer in layers.items():
        owners.setdefault(id(layer.weight), []).append(name)
    alone = [names[0] for names in owners.values() if len(names) == 1]
    ends = sorted({name.rpartition(".")[2] for name in alone})
    if not targets:
        raise ConfigError(f"lora.targets is empty; give '{ALL}', or some of {', '.join(ends)}")
    for target in targets:
        found = [m for name, m in layers.items() if f".{name}".endswith(f".{target}")]
        if not target or not found:
            raise ConfigError(
                f"lora.targets: the base has no layer '{target}' that LoRA can adapt"
                f"{nearest(target, ends)} Layers: {', '.join(ends)}; or '{ALL}'"
            )
        tied = [names for m in found if len(names := owners[id(m.weight)]) > 1]
        if tied:
            raise ConfigError(
                f"lora.targets: the base ties {' and '.join(tied[0])} (tie_word_embeddings), so "
                f"an adapter of '{target}' alone could not be merged; leave it out"
            )
