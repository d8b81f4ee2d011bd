"""A real causal language model with tied embeddings, through transformers alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from qdmerge.checkpoints import TaskVectors
from qdmerge.spaces import SpectralSpace

TOKENS = torch.arange(10)[None]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=24,
        vocab_size=32,
        tie_word_embeddings=True,
    )
    for i, name in enumerate(("base", "coding", "db")):
        torch.manual_seed(i)
        LlamaForCausalLM(config).save_pretrained(root / name)
    return {name: root / name for name in ("base", "coding", "db")}


@pytest.fixture(scope="module")
def space(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> SpectralSpace:
    experts = {k: p for k, p in folders.items() if k != "base"}
    cache = tmp_path_factory.mktemp("cache")
    return SpectralSpace(TaskVectors(folders["base"], experts), 4, cache)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(TOKENS).logits


def test_an_expressed_expert_answers_like_the_expert(
    space: SpectralSpace, folders: dict[str, Path]
) -> None:
    assert "lm_head.weight" not in space.vectors.names
    model = AutoModelForCausalLM.from_pretrained(folders["base"])
    for name in ("coding", "db", "base"):
        space.express(space.seeds[name], model)
        expert = AutoModelForCausalLM.from_pretrained(folders[name])
        torch.testing.assert_close(logits(model), logits(expert), rtol=1e-4, atol=1e-5)


def test_an_exported_model_is_the_expressed_one(
    space: SpectralSpace, folders: dict[str, Path], tmp_path: Path
) -> None:
    x = np.random.default_rng(0).normal(size=space.dim)
    model = AutoModelForCausalLM.from_pretrained(folders["base"])
    space.express(x, model)
    exported = AutoModelForCausalLM.from_pretrained(space.export(x, tmp_path / "out"))
    assert torch.equal(logits(model), logits(exported))
    assert exported.lm_head.weight is exported.model.embed_tokens.weight
