"""What config.json says of a model: how it computes, and whether it is quantized."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from qdmerge.checkpoints._checkpoint import Checkpoint, listing

_WITHOUT_EFFECT = re.compile(
    r"""_.*|architectures|auto_map|transformers_version|(torch_)?dtype|use_bfloat16|name_or_path
    |use_cache|cache_implementation|quantization_config|tie_word_embeddings|vocab_size|torchscript
    |(bos|eos|pad|sep|cls|mask|unk|decoder_start|forced_bos|forced_eos)_token_id|model_max_length
    |(id2label|label2id|num_labels|problem_type|finetuning_task|task_specific_params|prefix)
    |tokenizer_class|output_(attentions|hidden_states|router_logits|scores)|(use_)?return_dict.*
    |chunk_size_feed_forward|attn_implementation
    |.*dropout.*|.*_pdrop|.*layerdrop.*|drop_path_rate|.*initiali[sz]er.*|.*init_(std|range|scale)
    |.*jitter.*|.*(loss|aux).*|.*gradient_checkpointing.*|unsloth.*|pretraining_tp|mask_time.*
    |mask_feature.*|(summary_.*|num_logits_to_keep|use_mambapy|use_mamba_kernels)
    |(do_sample|temperature|top_[kp]|max_length|min_length|num_beams|.*penalty)""",
    re.VERBOSE,
)
"""Entries that the forward pass of a trained model does not use, but for :data:`_USED`."""

_USED = {
    "dory": "initializer_range",
    "phimoe": "router_jitter_noise",
    **dict.fromkeys(
        (
            *("camembert", "data2vec-text", "prophetnet", "roberta", "roberta-prelayernorm"),
            *("xglm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
        ),
        "pad_token_id",  # positions are counted from it
    ),
}
"""Such entries that some types of models do use; a test sweeps every architecture for others."""

_CODES = re.compile(
    r"\.(absmax|nested_absmax|quant_map|quant_state\..*|SCB|qweight|qzeros|g_idx"
    r"|weight_scale(_inv|_2)?|input_scale|weight_packed|weight_shape|.*_(blocks|scales)|scales)$"
)
"""Tensors that belong to quantized weights."""


def quantized(checkpoint: Checkpoint) -> str | None:
    """Return the one problem of a quantized checkpoint; None if it is none."""
    config = checkpoint.config()
    settings = config.get("quantization_config") or config.get("compression_config")
    codes = [name for name in checkpoint.stored if _CODES.search(name)]
    floats = [n for n, t in checkpoint.stored.items() if t.dtype.startswith("F8")]
    if not (settings or codes or floats):
        return None
    method = settings.get("quant_method") if isinstance(settings, Mapping) else None
    evidence = listing(codes or floats) if codes or floats else "quantization_config in config.json"
    return (
        f"is quantized ({method or evidence}), and codes cannot be merged; name the model in "
        "16 bits (bfloat16 or float16) that it was made from"
    )


def differences(
    base: Mapping[str, Any], expert: Mapping[str, Any], prefix: str = ""
) -> dict[str, str]:
    """Return the entries that the forward pass uses and that differ: ``"base -> expert"`` by name.

    An entry that only one has counts as None; entries of entries are named with a dot.
    """
    found: dict[str, str] = {}
    used = _USED.get(str(base.get("model_type")))
    for key in dict.fromkeys([*base, *expert]):
        ours, theirs = base.get(key), expert.get(key)
        renumbered = key == "id2label" and _renumbered(ours, theirs)
        if ours == theirs or (
            _WITHOUT_EFFECT.fullmatch(str(key)) and key != used and not renumbered
        ):
            continue
        if key == "type" and "rope_type" in base and "rope_type" in expert:
            continue  # its name before, which transformers keeps beside it
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            found |= differences(ours, theirs, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = f"{ours} -> {theirs}"
    return found


def _renumbered(ours: Any, theirs: Any) -> bool:
    """Return whether a class of this name is another output of the expert's."""
    if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
        return False
    numbers = {str(label): str(number) for number, label in ours.items()}
    return any(numbers.get(str(label), str(n)) != str(n) for n, label in theirs.items())


def other_computation(
    base: Checkpoint, expert: Checkpoint, allowed: Collection[str] = ()
) -> list[str]:
    """Return a problem if the expert's configuration computes otherwise than the base's.

    Configurations are compared as transformers completes them; where it does not know them,
    entries that both files have are.

    Args:
        base: The base.
        expert: The expert; one without a ``config.json`` is taken to be like the base.
        allowed: Entries that may differ.
    """
    ours, theirs = base.config(), expert.config()
    if not ours or not theirs:
        return []
    if base.layout and expert.layout:
        ours, theirs = (one.layout.model.config.to_dict() for one in (base, expert) if one.layout)
        if not _lengths_matter(ours):
            ours, theirs = (_without_lengths(one) for one in (ours, theirs))
    else:
        ours, theirs = ({k: v for k, v in one.items() if k in ours} for one in (ours, theirs))
        ours = {key: value for key, value in ours.items() if key in theirs}
    found = {k: v for k, v in differences(ours, theirs).items() if not _covered(k, allowed)}
    found.pop("model_type", None)  # compared before
    if not found:
        return []
    entries = listing([f"{name} {change}" for name, change in found.items()], limit=8)
    return [
        f"computes otherwise than the base with the same weights, by its config.json (base -> "
        f"expert): {entries}; name the base that it was trained from, or allow it "
        f"(config_differences: [{', '.join(found)}])"
    ]


def _covered(name: str, allowed: Collection[str]) -> bool:
    """Return whether an entry is allowed, by its own name or that of one that it is part of."""
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def _lengths_matter(config: Any) -> bool:
    """Return whether a rotary embedding anywhere depends on the longest sequence."""
    if isinstance(config, Mapping):
        kind = config.get("rope_type", "default")
        return kind not in ("default", "linear", "llama3") or any(
            map(_lengths_matter, config.values())
        )
    return False


def _without_lengths(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_lengths(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in ("max_position_embeddings", "n_positions", "n_ctx", "max_window_layers")
    }
