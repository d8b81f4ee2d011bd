"""Settings of a LoRA fine-tuning, and the record of what an adapter was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from qdmerge.errors import ConfigError
from qdmerge.storage import read_json_or_empty


class LoRAConfig(BaseModel):
    """How an adapter is trained: AdamW, linear warm-up, then a linear fall to zero.

    Attributes:
        rank: Rank r of the adapters (Hu et al. 2021, arXiv 2106.09685).
        alpha: The product of the two factors is scaled by alpha / rank.
        dropout: Share of the adapters' inputs that is dropped in training.
        targets: "all-linear" (every linear layer but the output layer), or names of layers.
        learning_rate: At the end of the warm-up.
        epochs: Passes over the conversations.
        steps: Stop after so many steps; None for all that the epochs give.
        batch_size: Conversations a step.
        max_length: Longer conversations are left out, in tokens.
        warmup: Share of the steps in which the learning rate rises from zero.
        clip: Largest norm of a step's gradient; 0 for no limit.
        seed: Of the adapters' start, the order of the conversations, and dropout.
        dtype: Type of the base's weights; the adapters are always float32. "auto" is bfloat16
            where the processor computes in it, else float32.
    """

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, allow_inf_nan=False)

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    learning_rate: PositiveFloat = 1e-3
    epochs: PositiveInt = 1
    steps: PositiveInt | None = None
    batch_size: PositiveInt = 8
    max_length: PositiveInt = 2048
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    clip: NonNegativeFloat = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


class TrainingConfig(BaseModel):
    """How `qdmerge experts` makes an expert that is not there yet: as a LoRA adapter.

    Attributes:
        data: Its training conversations, JSON lines with ``messages``.
        lora: Settings of the fine-tuning.
    """

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    data: str
    lora: LoRAConfig = LoRAConfig()


def completed(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded settings, with defaults for those added since."""
    return LoRAConfig().model_dump(mode="json") | dict(recorded)


RECORD = "qdmerge.json"
"""What an adapter was made from and how, beside its weights."""


def is_made(out: Path, made_from: Mapping[str, Any]) -> bool:
    """Return whether ``out`` holds an adapter made from the same by any versions; ConfigError if it
    holds something else.
    """
    if not out.exists():
        return False
    if not is_same(read_json_or_empty(out / RECORD), made_from):
        raise ConfigError(
            f"{out} exists but was not made from this base, these conversations and these "
            "settings. Remove it, or name another folder."
        )
    return True


def is_same(found: Mapping[str, Any], made_from: Mapping[str, Any]) -> bool:
    """Return whether a record names the same base, data and settings."""
    try:
        return bool(
            found["data"]["sha256"] == made_from["data"]["sha256"]
            and found["base"] == made_from["base"]
            and completed(found["settings"]) == made_from["settings"]
        )
    except (KeyError, TypeError, ValueError):
        return False
