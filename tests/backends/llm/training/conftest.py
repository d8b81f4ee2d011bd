"""A Llama of two layers, conversations for it, and an adapter trained on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from qdmerge_llm.training import LoRAConfig, train_lora
from tests import trained
from tests.backends.llm.conftest import make_tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

SETTINGS = LoRAConfig(
    rank=4, alpha=8, dropout=0.1, batch_size=4, epochs=3, learning_rate=5e-2, dtype="float32"
)


def talk(n: int) -> list[dict[str, str]]:
    turns = [("system", "You add one."), ("user", f"add {n}"), ("assistant", f"{n} + 1")]
    if n % 2:
        turns += [("user", "and what is it?"), ("assistant", f"{n + 1}")]
    return [{"role": role, "content": content} for role, content in turns]


def silent(name: str, done: int, total: int) -> None:
    pass


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    return load_file(adapter / "adapter_model.safetensors")


def same(one: Path, other: Path) -> bool:
    """Noise of 1e-6 in the gradients moves adapters by 7e-4 of their norm, lost moments by 0.6."""
    weights = [adapter / "adapter_model.safetensors" for adapter in (one, other)]
    return trained.same(*weights, tolerance=2e-2)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "base"
    tokenizer = make_tokenizer([m["content"] for n in range(20) for m in talk(n)])
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data(base: Path) -> Path:
    path = base.parent / "train.jsonl"
    path.write_text("".join(json.dumps({"messages": talk(n)}) + "\n" for n in range(20)))
    return path


@pytest.fixture(scope="session")
def adapter(base: Path, data: Path) -> Path:
    return train_lora(base, data, base.parent / "adapter", SETTINGS, silent)
