"""MySQL's statements as SQLite reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qdmerge_llm.tasks.database._program import quoted

_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "%": "\\%", "_": "\\_"}
_TOKEN = re.compile(
    r"""(?P<space>\s+|--(?=\s|\Z)[^\n]*|\#[^\n]*|/\*.*?\*/)
    |(?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    |(?P<quoted>`(?:[^`]|``)*`)
    |(?P<number>(?:0x[0-9a-f]+|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(?![\w$]))
    |(?P<name>[\w$@]+)
    |(?P<sign><=>|<<|>>|->>|->|:=|<=|>=|<>|!=|==|\|\||&&|.)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_COMPARING = {"=", "<", ">", "<=", ">=", "<>", "!=", "<=>"}
_SIGNS = {"||": "OR", "&&": "AND", "<=>": "IS", "/": "* 1.0 /"}
_NAMING = {"FROM", "INTO", "UPDATE", "JOIN", "TABLE"}  # before a table's name, which is no string
_NO_OPERAND = frozenset(
    ("AND", "OR", "NOT", "END", "NULL", "TRUE", "FALSE", "WHERE", "ON", "THEN", "ELSE", "WHEN")
)
_END_OF_SET = {"WHERE", "ORDER", "LIMIT"}


def in_sqlite(statement: str) -> str:
    """Return a statement of MySQL as SQLite reads it alike: strings in either quotes, names that
    begin with a digit, ``/``, ``||``, and comparisons with numbers, which are numeric. What MySQL
    would not read raises ValueError.
    """
    tokens = [(str(t.lastgroup), t[0]) for t in _TOKEN.finditer(statement) if t["space"] is None]
    words = [text.upper() if kind == "name" else text for kind, text in tokens]
    found = [_written(kind, text) for kind, text in tokens]
    writes = bool(words) and words[0] != "SELECT"
    setting = False
    for k, (word, before) in enumerate(zip(words, ["", *words], strict=False)):
        kind = tokens[k][0]
        if word in ("==", "[", "]") or (kind == "string" and before in _NAMING):
            raise ValueError(f"You have an error in your SQL syntax near {tokens[k][1]!r}")
        if kind == "string" and _names_columns(words, k):
            raise ValueError(f"You have an error in your SQL syntax near {tokens[k][1]!r}")
        if word == "SET" and words[0] == "UPDATE":
            setting = True
        setting = setting and word not in _END_OF_SET
        for start, end in _numeric_operands(tokens, words, k, setting):
            found[start] = f"{'strict_number' if writes else 'number'}({found[start]}"
            found[end] += ")"
        if word == "IGNORE" and before in ("INSERT", "UPDATE"):
            found[k] = "OR IGNORE"
        elif word == "RLIKE":
            found[k] = "REGEXP"
        elif (
            word == "VALUE" and words[k + 1 : k + 2] == ["("] and words[0] in ("INSERT", "REPLACE")
        ):
            found[k] = "VALUES"
    if words[:1] == ["TRUNCATE"]:
        found[: 2 if words[1:2] == ["TABLE"] else 1] = ["DELETE FROM"]
    return " ".join(found)


def _written(kind: str, text: str) -> str:
    if kind == "string":
        inner = text[1:-1].replace(text[0] * 2, text[0])
        inner = _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), inner)
        return "'" + inner.replace("'", "''") + "'"
    if kind == "name" and text[0].isdigit():
        return quoted(text)
    return _SIGNS.get(text, text)


def _names_columns(words: Sequence[str], k: int) -> bool:
    """Return whether a place is in the list of columns of an INSERT."""
    opened = words.index("(") if "(" in words else k
    return (
        words[0] in ("INSERT", "REPLACE")
        and opened < k
        and not {")", "VALUES", "VALUE", "SELECT", "SET"} & set(words[:k])
    )


def _numeric_operands(
    tokens: Sequence[tuple[str, str]], words: Sequence[str], k: int, setting: bool
) -> list[tuple[int, int]]:
    """Return first and last place of what the word at ``k`` compares with a number."""
    after = k + 1 + (words[k + 1 : k + 2] in (["-"], ["+"]))
    if words[k] == "IN" and words[k + 1 : k + 2] == ["("]:
        after = k + 2
    if words[k] not in (*_COMPARING, "IN", "BETWEEN"):
        return []
    last = k - 2 if words[k - 1] == "NOT" else k - 1
    found = []
    if (
        after < len(tokens)
        and tokens[after][0] == "number"
        and (operand := _left(tokens, words, last))
    ):
        assigned = setting and words[k] == "=" and words[operand[0] - 1] in ("SET", ",")
        found = [] if assigned else [operand]
    elif words[k] in _COMPARING and k and tokens[k - 1][0] == "number":
        found = [operand] if (operand := _right(tokens, words, k + 1)) else []
    return found


def _operand(tokens: Sequence[tuple[str, str]], words: Sequence[str], k: int) -> bool:
    return 0 <= k < len(tokens) and (
        tokens[k][0] in ("quoted", "string")
        or (tokens[k][0] == "name" and words[k] not in _NO_OPERAND)
    )


def _left(
    tokens: Sequence[tuple[str, str]], words: Sequence[str], last: int
) -> tuple[int, int] | None:
    """Return the operand that ends at a place: a name with its table's, a call, or brackets."""
    first = last
    if last >= 0 and words[last] == ")":
        depth = 1
        while depth and first > 0:
            first -= 1
            depth += (words[first] == ")") - (words[first] == "(")
        if depth:
            return None
        if _operand(tokens, words, first - 1) and tokens[first - 1][0] == "name":
            first -= 1
    elif not _operand(tokens, words, last):
        return None
    while words[first - 1 : first] == ["."] and first >= 2:
        first -= 2
    return first, last


def _right(
    tokens: Sequence[tuple[str, str]], words: Sequence[str], first: int
) -> tuple[int, int] | None:
    """Return the operand that begins at a place."""
    last = first
    if not _operand(tokens, words, first):
        return None
    while words[last + 1 : last + 2] == ["."] and last + 2 < len(words):
        last += 2
    if words[last + 1 : last + 2] == ["("]:
        depth, last = 1, last + 1
        while depth and last + 1 < len(words):
            last += 1
            depth += (words[last] == "(") - (words[last] == ")")
    return first, last
