"""A completion does not depend on its batch, whatever the architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AddedToken

from qdmerge.errors import ConfigError
from qdmerge_llm.generation import Generator
from tests.tiny import CAUSAL, NotTiny, characters, tiny

PROMPTS = ["ab", "select", "x" * 40 + "yz", "hello,world", "q", "table1", "abcdefghijklmnop", "z"]
ROPE = {"rope_theta": 10000.0}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [4.0, 8.0, 16.0, 32.0],
}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}


def alone(model: Any, prompt: str, new: int) -> list[int]:
    """What plain transformers writes for one prompt."""
    ids = characters()(prompt, return_tensors="pt")["input_ids"]
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new,
        do_sample=False,
        pad_token_id=2,
        eos_token_id=1,
    )[0, ids.shape[1] :].tolist()
    return made[: made.index(1)] if 1 in made else made


def together(model: Any, new: int, size: int = 4) -> list[list[int]]:
    return [row for _, row in Generator(model, characters(), size).write(PROMPTS, new)]


def differing(model: Any, new: int = 8) -> list[str]:
    """The prompts whose completions in a batch are not those of plain transformers alone."""
    rows = together(model, new)
    return [p for p, row in zip(PROMPTS, rows, strict=True) if row != alone(model, p, new)]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {}),
        ("gpt2", {}),
        ("mamba", {}),
        ("rwkv", {}),
        ("bloom", {}),
        ("mpt", {}),
        ("mixtral", {}),
        ("mistral", {"sliding_window": 8}),
        ("qwen3_next", {}),
        ("bart", {}),
        ("phi3", {"rope_parameters": ROPE | LONG, "original_max_position_embeddings": 20}),
        ("llama", {"rope_parameters": ROPE | DYNAMIC}),
    ],
)
def test_a_completion_does_not_depend_on_its_batch(kind: str, options: dict[str, Any]) -> None:
    assert differing(tiny(kind, **options)) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", CAUSAL)
def test_every_causal_architecture(kind: str) -> None:
    try:
        model = tiny(kind)
        expected = [alone(model, prompt, 8) for prompt in PROMPTS]
    except NotTiny as reason:
        pytest.skip(str(reason))
    except Exception as error:
        pytest.skip(f"plain transformers fails: {type(error).__name__}: {error}")
    assert together(model, 8) == expected


@pytest.mark.parametrize("kind", ["llama", "bloom"])
@pytest.mark.parametrize("size", [1, 3])
def test_a_pad_token_beyond_the_embedding_is_not_used(kind: str, size: int) -> None:
    tokenizer = characters()
    model = tiny(kind, vocab_size=len(tokenizer))
    tokenizer.add_special_tokens({"pad_token": AddedToken("[PAD]", special=True)})
    assert tokenizer.pad_token_id == model.get_input_embeddings().weight.shape[0]
    rows = [row for _, row in Generator(model, tokenizer, size).write(PROMPTS, 8)]
    assert rows == [alone(model, prompt, 8) for prompt in PROMPTS]
    assert Generator(model, tokenizer, size)([""], 3)  # starts from another token


def test_a_prompt_with_a_token_beyond_the_embedding_is_refused() -> None:
    tokenizer = characters()
    model = tiny("llama", vocab_size=len(tokenizer))
    tokenizer.add_tokens(["<call>"])
    with pytest.raises(ConfigError, match=r"'<call>', a token .* no row for .id 97, 97 rows"):
        Generator(model, tokenizer)(["a", "b<call>"], 3)
