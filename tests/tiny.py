"""Tiny random models of any causal architecture of transformers, and a tokenizer for them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

CAUSAL = {config.model_type: config for config in MODEL_FOR_CAUSAL_LM_MAPPING}
LARGEST = 4_000_000  # parameters

_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "width"), 32),
    **dict.fromkeys(("attention_hidden_size", "lru_width", "q_size", "input_embedding_size"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "encoder_ffn_dim"), 48),
    **dict.fromkeys(("decoder_ffn_dim", "moe_intermediate_size", "ffn_hidden_size"), 48),
    **dict.fromkeys(("shared_expert_intermediate_size", "expert_ffn_hidden_size"), 48),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "intermediate_size_mlp"), 48),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "n_kv_heads"), 2),
    **dict.fromkeys(("num_hidden_layers", "n_layers", "n_layer", "num_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim"), 8),
    **dict.fromkeys(("v_head_dim", "qk_head_dim"), 8),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **{"max_position_embeddings": 256, "n_positions": 256, "n_ctx": 256, "max_seq_len": 256},
    **{"rotary_dim": 8, "state_size": 8, "mamba_d_state": 8, "ssm_state_size": 8},
    **{"vocab_size": 120, "vocab_size_per_layer_input": 120, "hidden_size_per_layer_input": 8},
    **{"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "initializer_range": 0.2},
    **{"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_expand": 2, "time_step_rank": 4},
    **{"mamba_num_heads": 8, "mamba_head_dim": 8, "n_mamba_heads": 2, "n_groups": 1},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8},
    **{"linear_value_head_dim": 8, "num_kv_shared_layers": 0, "sliding_window": 16},
    **{"global_head_dim": 8, "mlp_layer_types": None},
    **{"index_n_heads": 2, "index_head_dim": 16, "index_topk": 64, "mamba_n_groups": 1},
}
_LEFT_OUT: tuple[set[str], ...] = (
    set(),
    {"head_dim", "qk_head_dim"},
    {"layer_types"},
    {"mlp_layer_types"},
    {"head_dim", "qk_head_dim", "layer_types", "mlp_layer_types"},
    {"num_hidden_layers", "num_layers", "layer_types"},
    {"num_key_value_heads"},
    {"num_key_value_heads", "head_dim", "qk_head_dim"},
    {"qk_head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "head_dim"},
)
"""What a setting makes impossible in some architectures: tried without."""

_OWN: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "xlstm": {"num_heads": 4},
    "mpt": {"n_layers": 2, "max_seq_len": 256},
    **{kind: {"head_dim": 8} for kind in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral")},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
}


class NotTiny(Exception):
    """Why no tiny model was made."""


def tiny(kind: str, seed: int = 0, **options: Any) -> PreTrainedModel:
    """Return a tiny random model of an architecture; the same seed makes the same weights.

    Raises:
        NotTiny: Its settings do not say how to make it small, or it needs another package.
    """
    reasons = []
    own = _OWN.get(kind, {})
    for left_out in _LEFT_OUT:
        try:
            model = _made(CAUSAL[kind], {**own, **options}, left_out, seed)
            with torch.inference_mode():
                model(input_ids=torch.tensor([[5, 6, 7]]))
        except Exception as error:
            reasons.append(f"{type(error).__name__}: {str(error).strip()[:150]}")
        else:
            return model
    raise NotTiny(reasons[0].replace("\n", " "))


def _made(config_class: Any, own: dict[str, Any], left_out: set[str], seed: int) -> Any:
    config = config_class(**_small(config_class, own, left_out))
    with torch.device("meta"):
        size = AutoModelForCausalLM.from_config(copy.deepcopy(config)).num_parameters()
    if size > LARGEST:
        raise NotTiny(f"still {size} parameters")
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # nothing at zero: what biases add in padding must show
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model


def _small(config_class: Any, own: dict[str, Any], left_out: set[str]) -> dict[str, Any]:
    """Return settings of a small model, small parts included."""
    default = config_class()

    def given(name: str) -> Any:
        try:
            return getattr(default, name, None)
        except Exception:  # one for each layer
            return 1

    def settable(name: str) -> bool:
        found = getattr(config_class, config_class.attribute_map.get(name, name), None)
        return not isinstance(found, property) or found.fset is not None

    sizes = {k: v for k, v in _SIZES.items() if k not in left_out}
    known = {k: v for k, v in sizes.items() if settable(k) and given(k) is not None}
    types = given("layer_types") or given("layers_block_type")
    if isinstance(types, list) and "num_hidden_layers" in known:
        once = [*dict.fromkeys(types)]
        once = once * 2 if len(once) == 1 else once
        known["num_hidden_layers"] = len(once)
        if settable("layer_types") and "layer_types" not in left_out:
            known["layer_types"] = once
    if getattr(default, "is_decoder", None) is False:
        known["is_decoder"] = True
    for name, part in vars(default).items():
        if isinstance(part, PreTrainedConfig):
            known[name] = _small(type(part), {}, left_out)
    return {**known, **own}


def characters() -> PreTrainedTokenizerFast:
    """Return a tokenizer of single characters, ids from 3 on."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    letters = [chr(code) for code in range(33, 127)]
    vocabulary = {token: k for k, token in enumerate(["<s>", "</s>", "<pad>", *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="!"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
