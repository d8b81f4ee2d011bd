"""Reading turns and answers of the database protocol."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Sequence
from typing import Any

_ACTION = re.compile(r"Action\s*:\W*(Operation|Answer)\b", re.IGNORECASE)
_SQL = re.compile(
    r"```[ \t]*(?:\w*sql\w*)?[ \t]*\n(.*?)(?:^[ \t]*```|\Z)",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
_FINAL = re.compile(r"Final Answer\s*:(.*)", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_LONGEST = 10_000  # characters of an answer that is read as a list


def parse_turn(text: str) -> tuple[str, str] | None:
    """What a turn asks for.

    Returns:
        ``("operation", SQL)``, ``("answer", text after "Final Answer:")``, or None where the turn
        is not of the protocol's form. Its first action counts.
    """
    action = _ACTION.search(text)
    if action is None:
        return None
    kind, rest = action[1].lower(), text[action.end() :]
    found = (_SQL if kind == "operation" else _FINAL).search(rest)
    if found is None or (kind == "operation" and not found[1].strip()):
        return None
    return kind, found[1].strip()


def parse_values(text: str) -> list[str]:
    """The values of a final answer: ``["a", 1]``, ``[('a',)]``, ``[a]`` or ``a``."""
    line = text.strip().split("\n")[0].strip()
    for candidate in (text.strip(), line):
        opened = candidate.find("[")
        if opened != 0 or len(candidate) > _LONGEST or candidate.count("[") > 50:
            continue
        closed = candidate[: candidate.rfind("]") + 1]
        for read in (json.loads, ast.literal_eval):
            try:
                return [_text(member) for member in read(closed)]
            except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                continue
    inner = line[1:].removesuffix("]") if line.startswith("[") else line
    return [inner.strip().strip("'\"")]


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)) and len(value) == 1:  # a row of one column
        return _text(value[0])
    return "none" if value is None else str(value)


def _canonical(value: Any) -> float | str:
    text = _text(value).strip()
    number = float(text) if len(text) < 400 and _NUMBER.fullmatch(text) else math.nan
    return number if math.isfinite(number) else text


def same_answer(values: Sequence[str], label: Sequence[Any]) -> bool:
    """Whether an answer's values are the label's.

    Two values are equal as numbers if both are numbers, else as text. Several are compared as sets.
    """
    if len(label) == 1 and len(values) != 1:
        return False
    return {_canonical(value) for value in values} == {_canonical(value) for value in label}
