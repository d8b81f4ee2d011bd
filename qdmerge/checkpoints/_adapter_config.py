"""What an adapter's configuration says: scales, what cannot be merged, and the base it names."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ADAPTER_CONFIG = "adapter_config.json"

_PATTERNS = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}

_VARIANTS = {
    "use_dora": "DoRA, whose update depends on the norm of the base's weights",
    "use_qalora": "QA-LoRA, for quantized layers",
    "use_bdlora": "block-diagonal LoRA",
    "alora_invocation_tokens": "activated LoRA, which only works on the tokens after its cue",
    "arrow_config": "Arrow, which routes every token to adapters of its own",
    "kasa_config": "KaSA, which changes the base's weights",
    "monteclora_config": "MonteCLoRA, which samples its weights",
    "layer_replication": "layer replication, which changes the base's layers",
    "target_parameters": "LoRA on bare parameters",
    "trainable_token_indices": "trained rows of the embedding",
}
"""Options under which an adapter is more than ``B A`` added to the base's weights."""

_LARGEST = 1e9  # of ranks and alphas

_CHANGING = ("pissa", "olora", "corda", "lora_ga", "loftq")
"""Initializations that change the base's weights while training."""


def pattern_value(config: Mapping[str, Any], key: str, module: str) -> float:
    """Return ``r`` or ``lora_alpha`` of a module: the first pattern matching its name's end."""
    for pattern, value in (config.get(_PATTERNS[key]) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(value)
    return float(config.get(key, 8))  # peft's default of both


def unsupported(config: Mapping[str, Any]) -> list[str]:
    """Return why an adapter of this configuration cannot be merged; empty if it can."""
    kind = config.get("peft_type")
    if kind != "LORA":
        return [f"is a {kind!r} adapter in its {ADAPTER_CONFIG}; only 'LORA' can be merged"]
    problems = [
        f"cannot be merged: it uses {what} ({option})"
        for option, what in _VARIANTS.items()
        if config.get(option)
    ]
    start = str(config.get("init_lora_weights")).lower()
    if start.startswith(_CHANGING):
        problems.append(
            f"cannot be merged: init_lora_weights {start!r} changed the base's own weights; save "
            "it as plain LoRA: save_pretrained(..., path_initial_model_for_weight_conversion=...)"
        )
    if start == "mica":
        problems.append("cannot be merged: it uses MiCA (init_lora_weights)")
    problems += _not_numbers(config)
    return problems


def wrong_base(config: Mapping[str, Any], base: Path) -> list[str]:
    """Return a problem if the Hub ids of base and adapter show that they do not belong together."""
    # The base's _name_or_path does not count: it may name what the base was trained from. Nor does
    # another owner of the same model name: it may be a copy.
    ours, theirs = _hub_id(base), config.get("base_model_name_or_path")
    if ours is None or not isinstance(theirs, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", theirs):
        return []
    if os.path.exists(theirs) or _model(ours) == _model(theirs):
        return []
    return [
        f"was made for another base: {theirs} (base_model_name_or_path in its {ADAPTER_CONFIG}), "
        f"this base is {ours}; if both are the same model, correct that entry"
    ]


def _hub_id(path: Path) -> str | None:
    """Return ``owner/model`` from a path like ``.../models--owner--model/snapshots/...``."""
    found = [part for part in path.absolute().parts if part.startswith("models--")]
    return found[-1].removeprefix("models--").replace("--", "/") if found else None


def _model(hub_id: str) -> str:
    return hub_id.rpartition("/")[2].casefold()


def _not_numbers(config: Mapping[str, Any]) -> list[str]:
    problems = []
    for key, patterns in _PATTERNS.items():
        table = config.get(patterns) or {}
        values = {key: config.get(key, 8), **table} if isinstance(table, dict) else {patterns: None}
        for name, value in values.items():
            number = value if isinstance(value, int | float) else math.nan
            if not abs(number) < _LARGEST or (key == "r" and number < 1):
                problems.append(f"has an impossible value of {name!r} in its {ADAPTER_CONFIG}")
            try:
                re.compile(name)
            except re.error:
                problems.append(f"has {name!r} in {patterns}, which is no regular expression")
    return problems
