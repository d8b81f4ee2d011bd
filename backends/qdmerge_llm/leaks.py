"""Do training conversations ask what models are scored on?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from qdmerge.errors import ConfigError
from qdmerge_llm.items import read_rows

_SHORTEST = 12  # letters and digits; shorter questions would be found in anything
# A question stands by itself where it begins and ends as a sentence or a line does. What goes on
# before or behind ("... in /root/work of less than 10 bytes") asks for something else.
_BEGIN = r"(?:^|[^\w\s,])\s*"
_END = r"(?=[^\w\n,]*(?:\n|\Z)|[ ]*[.?!:;)\]\"'`*]+(?:\s|\Z))"


def leaked_items(conversations: Path, questions: Mapping[str, str]) -> list[str]:
    """Names of the items whose question stands in a user's turn of the training conversations.

    It is found with other text before and behind it, but not as a part of a longer sentence. Case,
    spaces and punctuation within it do not count.

    Args:
        conversations: Rows with ``messages``, in a form of :func:`read_rows`.
        questions: What items ask for (:meth:`TaskKind.bare_question`), by the items' names.

    Raises:
        ConfigError: The file cannot be read.
    """
    turns = {turn: _plain(turn) for turn in _user_turns(conversations)}
    everything = "\n".join(turns.values())  # one search instead of one for each turn
    found = []
    for name, question in questions.items():
        plain = _plain(question)
        if len(plain) >= _SHORTEST and plain in everything:
            holding = (turn for turn, text in turns.items() if plain in text)
            if _asked(plain, holding):
                found.append(name)
    return found


def _asked(plain: str, turns: Iterable[str]) -> bool:
    pattern = re.compile(_BEGIN + r"\W*".join(plain) + _END, re.IGNORECASE | re.MULTILINE)
    return any(pattern.search(turn) for turn in turns)


def _user_turns(path: Path) -> list[str]:
    rows = [row for _, row in read_rows(path)]
    try:
        turns = [m["content"] for row in rows for m in row["messages"] if m["role"] == "user"]
        return sorted(set(turns))
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: cannot be read as conversations, rows with 'messages' ({error!r})"
        ) from error


def _plain(text: str) -> str:
    return re.sub(r"\W+", "", text).lower()
