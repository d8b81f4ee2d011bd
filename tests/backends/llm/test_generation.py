from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from qdmerge_llm.generation import Generator

from .conftest import Micro


@pytest.fixture(scope="module")
def loaded(micro: Micro) -> tuple[Any, Any]:
    # A noisy copy: its completions differ in length and some never end.
    model = AutoModelForCausalLM.from_pretrained(micro.folder / "coding").eval()
    return model, AutoTokenizer.from_pretrained(micro.folder / "coding")


@pytest.fixture(scope="module")
def prompts(micro: Micro) -> list[str]:
    known = [item["prompt"] for items in micro.items.values() for item in items]
    return [*known, "add", "rows over 1 and 2 and 3 and 4", "x" * 40]


def reference(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int) -> str:
    ids = tokenizer(prompt, return_tensors="pt")
    ids.pop("token_type_ids", None)
    out = model.generate(**ids, max_new_tokens=max_new_tokens, do_sample=False)[0]
    return tokenizer.decode(out[ids["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_same_texts_as_generate_one_by_one(
    loaded: tuple[Any, Any], prompts: list[str], batch_size: int
) -> None:
    texts = Generator(*loaded, batch_size)(prompts, 20)
    assert texts == [reference(*loaded, prompt, 20) for prompt in prompts]
    assert len(set(map(len, texts))) > 3  # rows did finish at different times


def test_order_of_prompts_is_kept(loaded: tuple[Any, Any], prompts: list[str]) -> None:
    generator = Generator(*loaded, 4)
    assert generator(prompts[::-1], 12) == generator(prompts, 12)[::-1]


def test_no_prompts(loaded: tuple[Any, Any]) -> None:
    assert Generator(*loaded)([], 5) == []


def test_stop_strings_end_a_text_early(loaded: tuple[Any, Any], prompts: list[str]) -> None:
    generator = Generator(*loaded, 4)
    full = generator(prompts, 20)
    stop = ("return", "FROM t")
    cut = generator(prompts, 20, stop)
    for long, short in zip(full, cut, strict=True):
        ends = [long.index(mark) + len(mark) for mark in stop if mark in long]
        if not ends:
            assert short == long
        else:
            # The stop string is in, and at most the rest of the token that completed it.
            assert long.startswith(short)
            assert min(ends) <= len(short) <= min(ends) + 12
    assert sum(map(len, cut)) < sum(map(len, full))


def test_decoding_ends_with_the_last_row(
    loaded: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, micro: Micro
) -> None:
    model = AutoModelForCausalLM.from_pretrained(micro.folder / "base").eval()
    widths = []
    forward = model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        widths.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", counted)
    items = [micro.items["coding"][0], *micro.items["os"]]
    Generator(model, loaded[1])([item["prompt"] for item in items], 100)
    longest = max(len(loaded[1]("\n" + item["answer"])["input_ids"]) for item in items)
    assert len(widths) == longest + 1
    assert widths[0] == len(items)
    assert widths[-1] < len(items)  # finished rows were dropped


def test_weights_may_change_between_calls(micro: Micro, loaded: tuple[Any, Any]) -> None:
    model = AutoModelForCausalLM.from_pretrained(micro.folder / "base").eval()
    generator = Generator(model, loaded[1])
    prompt = micro.items["os"][0]["prompt"]
    before = generator([prompt], 10)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert generator([prompt], 10) != before


def test_positions_count_a_rows_own_tokens(loaded: tuple[Any, Any], prompts: list[str]) -> None:
    """With learned absolute positions, padding must not move a prompt; rotary ones hide that."""
    tokenizer = loaded[1]
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=96,
        initializer_range=1.0,
    )
    config.eos_token_id = config.bos_token_id = config.pad_token_id = None
    model = GPT2LMHeadModel(config).eval()
    texts = Generator(model, tokenizer, 64)(prompts, 12)
    assert texts == [reference(model, tokenizer, prompt, 12) for prompt in prompts]
    assert len(set(texts)) > 10
