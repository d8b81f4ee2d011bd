"""Conversations as a model sees them: token numbers, and which of them are its own to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdmerge.errors import ConfigError
from qdmerge_llm.items import read_rows

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Example:
    """One conversation.

    Attributes:
        ids: Its token numbers.
        learned: For each of them, whether the model is to learn to write it.
    """

    ids: list[int]
    learned: list[bool]


def read_conversations(path: Path) -> list[list[dict[str, str]]]:
    """Read rows of ``{"messages": [{"role", "content"}, ...]}``; other keys are ignored.

    Args:
        path: JSON lines, or one JSON list; either may be compressed (``.gz``).

    Raises:
        ConfigError: If the file cannot be read, or a row is not a conversation in which an
            assistant speaks; the message names the file and the line.
    """
    found = []
    for where, row in read_rows(path):
        if reason := _problem(row):
            raise ConfigError(f"{path}, {where}: {reason}.")
        found.append([{key: turn[key] for key in ("role", "content")} for turn in row["messages"]])
    if not found:
        raise ConfigError(f"{path}: no conversations in it.")
    return found


def _problem(row: Any) -> str | None:
    """What is wrong with the form of a line, or None."""
    messages = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(messages, list) or not messages:
        return 'expected {"messages": [{"role": ..., "content": ...}, ...]}'
    for position, turn in enumerate(messages, start=1):
        if not isinstance(turn, Mapping) or not isinstance(turn.get("content"), str):
            return f"message {position} has no text under 'content'"
        if turn.get("role") not in ROLES:
            return f"message {position} has role {turn.get('role')!r}, not one of {list(ROLES)}"
    if all(turn["role"] != "assistant" for turn in messages):
        return "no message has role 'assistant': nothing to learn"
    return None


def encode(messages: Sequence[Mapping[str, str]], tokenizer: Any) -> Example:
    """Tokenize a conversation by the tokenizer's chat template, piece by piece.

    Assistant turns are cut off where their generation would begin and tokenized by themselves, so
    that what is learned begins at the token where generation begins.

    Raises:
        ConfigError: If the template rewrites earlier turns when later ones are added.
    """
    ids: list[int] = []
    learned: list[bool] = []
    done = ""

    def add(text: str, own: bool) -> None:
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids.extend(piece)
        learned.extend([own] * len(piece))

    for end, turn in enumerate(messages):
        if turn["role"] != "assistant":
            continue
        before = _templated(messages[:end], tokenizer, generate=True)
        after = _templated(messages[: end + 1], tokenizer, generate=False)
        if not (before.startswith(done) and after.startswith(before)):
            raise ConfigError(
                "the base's chat template rewrites earlier turns of a conversation; "
                "such a template cannot be trained on"
            )
        add(before[len(done) :], own=False)
        add(after[len(before) :], own=True)
        done = after
    return Example(ids, learned)


def _templated(messages: Sequence[Mapping[str, str]], tokenizer: Any, generate: bool) -> str:
    return tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=generate
    )
