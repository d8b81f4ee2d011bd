"""Conversations as token numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from qdmerge.errors import ConfigError
from qdmerge_llm.training import train_lora
from qdmerge_llm.training._data import encode, read_conversations
from tests.backends.llm.training.conftest import SETTINGS, TEMPLATE, silent, talk


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "expected"),
        ('{"messages": []}', "expected"),
        ('{"messages": [{"role": "user"}]}', "message 1 has no text"),
        ('{"messages": [{"role": "bot", "content": "a"}]}', "role 'bot'"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "nothing to learn"),
    ],
)
def test_a_bad_line_is_named(base: Path, tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"messages": talk(1)}) + "\n\n" + line + "\n")
    with pytest.raises(ConfigError, match=rf"bad\.jsonl, line 3: .*{reason}"):
        train_lora(base, path, tmp_path / "out", SETTINGS, silent)


def test_a_line_ends_at_a_newline_only(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    rows = [[{"role": "assistant", "content": f"a{c}b"}] for c in "\u2028\x85\x0c"]
    lines = [json.dumps({"messages": row}, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    assert read_conversations(path) == rows


@pytest.mark.parametrize("n", [2, 3])
def test_exactly_what_the_assistant_says_is_learned(base: Path, n: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    example = encode(talk(n), tokenizer)
    text = tokenizer.apply_chat_template(talk(n), tokenize=False)
    assert tokenizer.decode(example.ids) == text
    learned = tokenizer.decode(
        [i for i, own in zip(example.ids, example.learned, strict=True) if own]
    )
    said = [m["content"] for m in talk(n) if m["role"] == "assistant"]
    assert learned == "".join(f"{content}<eos>" for content in said)


def test_a_template_that_rewrites_earlier_turns_is_refused(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{{ messages | length }}" + TEMPLATE
    with pytest.raises(ConfigError, match="rewrites earlier turns"):
        encode(talk(1), tokenizer)
