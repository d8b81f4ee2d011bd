"""Reading GGUF files, on small ones written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from qdmerge.errors import CheckpointError, ConfigError
from qdmerge_llm import gguf as ours
from qdmerge_llm.gguf import convert
from tests.backends.llm.conftest import make_tokenizer

gguf = pytest.importorskip("gguf")

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
HEADS, SIZE = 2, 64
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    name = name.replace("model.layers.", "blk.")
    for theirs, its in NAMES.items():
        name = name.replace(theirs, its)
    return name


def interleaved(weight: np.ndarray) -> np.ndarray:
    """Rows of a query or key projection in llama.cpp's order: the halves of a head interleaved."""
    rows, columns = weight.shape
    halves = weight.reshape(HEADS, 2, rows // HEADS // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


@pytest.fixture(scope="module")
def llama() -> Any:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(["a few words", "and some more words"])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=SIZE,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=2 * SIZE,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval(), tokenizer


def write(path: Path, llama: Any, kind: str) -> Path:
    model, tokenizer = llama
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(SIZE)
    writer.add_block_count(2)
    writer.add_feed_forward_length(2 * SIZE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokenizer))
    parts = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    tokens = sorted(parts["vocab"], key=parts["vocab"].get)
    writer.add_token_list(tokens)
    writer.add_token_types(
        [3 if token.startswith("<") and len(token) > 1 else 1 for token in tokens]
    )
    writer.add_token_merges([" ".join(merge) for merge in parts["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATE)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        values = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            values = interleaved(values)
        if values.ndim == 1 or kind == "F32":
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(values))
        else:
            kinds = gguf.GGMLQuantizationType
            data = gguf.quants.quantize(np.ascontiguousarray(values), kinds[kind])
            writer.add_tensor(gguf_name(name), data, raw_dtype=kinds[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"),
    [("F32", torch.float32, 0.0), ("F16", torch.float16, 1e-3), ("Q8_0", torch.bfloat16, 1e-2)],
)
def test_a_file_becomes_a_plain_folder_with_its_weights(
    llama: Any, tmp_path: Path, kind: str, dtype: torch.dtype, tolerance: float
) -> None:
    folder = convert(write(tmp_path / "model.gguf", llama, kind), tmp_path / "cache")
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == dtype
    expected = llama[0].state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight.float(), expected[name], rtol=tolerance, atol=tolerance)
    ids = torch.arange(20)[None]
    logits = model.float()(ids).logits
    torch.testing.assert_close(logits, llama[0](ids).logits, rtol=0, atol=20 * tolerance + 1e-5)


def test_the_tokenizer_is_the_files_own_and_pads_left(llama: Any, tmp_path: Path) -> None:
    folder = convert(write(tmp_path / "model.gguf", llama, "F32"), tmp_path / "cache")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.padding_side == "left"
    assert tokenizer.chat_template == TEMPLATE
    text = "a few more words"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_file_is_converted_once_whatever_its_name(
    llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write(tmp_path / "one.gguf", llama, "F32")
    folder = convert(one, tmp_path / "cache")
    monkeypatch.setattr(ours, "_write", lambda *_: pytest.fail("converted again"))
    assert convert(one.rename(tmp_path / "other.gguf"), tmp_path / "cache") == folder


def test_what_is_no_gguf_model_is_named(llama: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.gguf cannot be read"):
        convert(tmp_path / "gone.gguf", tmp_path / "cache")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(CheckpointError, match=r"text\.gguf is not a GGUF file"):
        convert(tmp_path / "text.gguf", tmp_path / "cache")
    whole = write(tmp_path / "torn.gguf", llama, "F32").read_bytes()
    (tmp_path / "torn.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"torn\.gguf cannot be read as a GGUF"):
        convert(tmp_path / "torn.gguf", tmp_path / "cache")
    assert not list((tmp_path / "cache" / "gguf").glob("*.partial"))


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'qdmerge\[gguf\]'"):
        convert(tmp_path / "model.gguf", tmp_path / "cache")
