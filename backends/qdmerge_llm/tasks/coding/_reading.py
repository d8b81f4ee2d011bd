"""Finding the code in what a chat model answers, and inputs of Python's types in JSON rows."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from qdmerge_llm.tasks.coding._program import encode

_FENCE = re.compile(
    r"^[ \t]*(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n`]*$", re.MULTILINE
)
_INLINE = re.compile(r"```[ \t]*(?:python|py)?[ \t]+([^\n`]+?)[ \t]*```")
_START = re.compile(
    r"^(?:from[ \t]+[\w.]+[ \t]+import\b|import[ \t]+[\w., \t]*\w[ \t]*$|@\w"
    r"|(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(|class[ \t]+\w+[ \t]*[(:])",
    re.MULTILINE,
)


def blocks(text: str) -> list[str]:
    """Return the fenced blocks of a text in their order; the last one may lack its end."""
    found, start, mark = [], -1, ""
    for fence in _FENCE.finditer(text):
        if start < 0:
            start, mark = fence.end() + 1, fence["mark"]
        elif fence["mark"].startswith(mark) and not fence["language"]:
            found.append(text[start : fence.start()])
            start = -1
        elif fence["language"]:  # the last block was not closed, another one begins
            found.append(text[start : fence.start()])
            start, mark = fence.end() + 1, fence["mark"]
    if 0 <= start < len(text):
        found.append(text[start:])
    return [_dedented(block) for block in found] or _INLINE.findall(text)


def _dedented(block: str) -> str:
    """Remove the first line's indent where all lines have it (lists in Markdown)."""
    block = block.strip("\n")
    indent = len(block) - len(block.lstrip(" \t"))
    lines = block.split("\n")
    begins = re.match(r"\s*(from|import|def|class|async)\b|\s*@", block)
    if begins and all(not line.strip() or line[:indent] == lines[0][:indent] for line in lines):
        lines = [line[indent:] for line in lines]
    return "\n".join(lines)


def defines(code: str, entry: str) -> bool:
    """Return whether a code defines a name at its top level."""
    name = re.escape(entry)
    function = rf"(?:async[ \t]+)?def[ \t]+{name}[ \t]*\("
    value = rf"{name}[ \t]*(?::[^=\n]*)?=(?!=)"
    return (
        re.search(rf"^(?:{function}|class[ \t]+{name}\b|{value})", code, re.MULTILINE) is not None
    )


def extract_code(text: str, entry: str) -> str:
    """Return the code of a chat answer.

    Of several fenced blocks the first that defines the entry point, or else the first. Without
    fences the text from where code seems to begin. Prose after the code is left in: what runs it
    takes the longest beginning that is Python.

    Args:
        text: The answer.
        entry: Name of the function asked for.
    """
    text = text.replace("\r\n", "\n")
    found = blocks(text)
    if found:
        return next((block for block in found if defines(block, entry)), found[0])
    for start in _START.finditer(text):
        if defines(text[start.start() :], entry):
            return text[start.start() :]
    return text


def described(prompt: str, entry: str) -> str:
    """Return the docstring of a prompt's function before its examples; else the prompt."""
    try:
        functions = [n for n in ast.walk(ast.parse(prompt)) if isinstance(n, ast.FunctionDef)]
    except SyntaxError:
        return prompt
    text = next((ast.get_docstring(n) for n in functions if n.name == entry), None) or prompt
    return re.split(r">>>|\n\s*(?:for )?examples?\b", text, maxsplit=1, flags=re.IGNORECASE)[0]


def completed(code: str, prompt: str, entry: str) -> str:
    """Return the whole program of an answer to a prompt that ends within a function.

    An answer that defines the function needs the prompt for what stands before it only: imports and
    helpers. Any other continues the prompt.
    """
    if defines(code, entry):
        found = re.search(rf"^def[ \t]+{re.escape(entry)}\b", prompt, re.MULTILINE)
        return prompt[: found.start() if found else 0] + "\n" + code
    if code.strip() and not code.startswith((" ", "\t", "\n")):
        code = "\n".join("    " + line if line.strip() else line for line in code.split("\n"))
    return prompt.rstrip(" \t") + ("" if prompt.endswith("\n") else "\n") + code


def example_calls(assertions: str, entry: str) -> list[tuple[Any, ...]]:
    """Return the arguments of a function's calls in assertions, where they are literal."""
    found = []
    for statement in ast.parse(assertions).body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == entry:
                with suppress(ValueError, TypeError):
                    found.append(tuple(ast.literal_eval(argument) for argument in node.args))
                break
    return found


def typed(value: Any, examples: Sequence[Any]) -> Any:
    """Return a JSON value in the types of examples seen in its place: JSON knows no tuples, sets or
    complex numbers, but assertions of a benchmark show which are meant.
    """
    if isinstance(value, list):
        alike = [e for e in examples if isinstance(e, (list, tuple, set, frozenset))]
        ordered = [list(e) for e in alike if isinstance(e, (list, tuple))]
        if ordered and all(len(e) == len(value) for e in ordered):
            members = [typed(v, [e[k] for e in ordered]) for k, v in enumerate(value)]
        else:
            inside = [member for e in alike for member in e]
            members = [typed(v, inside) for v in value]
        return members if not alike else type(alike[0])(members)
    if isinstance(value, dict):
        mappings = [e for e in examples if isinstance(e, dict)]
        keys = {key for e in mappings for key in e}
        inside = [member for e in mappings for member in e.values()]
        return {_key(key, keys): typed(v, inside) for key, v in value.items()}
    if isinstance(value, str) and complex in map(type, examples):
        with suppress(ValueError):
            return complex(value)
    return value


def _key(key: str, examples: Collection[Any]) -> Any:
    """Return a key of a JSON object, a number where examples are."""
    number = key not in examples and any(type(e) is int for e in examples)
    return int(key) if number and re.fullmatch(r"-?\d{1,18}", key) else key


def typed_inputs(
    base: Sequence[Sequence[Any]], plus: Sequence[Sequence[Any]], assertions: str, entry: str
) -> list[Any]:
    """Return JSON inputs, each a tuple of arguments, in the form that values travel in. They take
    the types of the assertions, whose own inputs are ``base``.
    """
    examples = example_calls(assertions, entry)
    rows = list(examples) if len(examples) == len(base) else [_row(r, examples) for r in base]
    return [encode(tuple(row)) for row in [*rows, *(_row(row, examples) for row in plus)]]


def _row(row: Sequence[Any], examples: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(
        typed(value, [example[k] for example in examples if len(example) > k])
        for k, value in enumerate(row)
    )


def as_sets(tests: Sequence[str], entry: str) -> bool:
    """Return whether all tests compare only the set of what a function returns."""
    pattern = re.compile(rf"\s*assert\s+set\(\s*{re.escape(entry)}\s*\(")
    return bool(tests) and all(map(pattern.match, tests))
