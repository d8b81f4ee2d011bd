"""Finding the code in what a chat model answers."""

from __future__ import annotations

import ast
import re

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
    """The fenced blocks of a text in their order; the last one may lack its end."""
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
    """A block without the indent of its first line, where all lines have it (lists in Markdown)."""
    block = block.strip("\n")
    indent = len(block) - len(block.lstrip(" \t"))
    lines = block.split("\n")
    begins = re.match(r"\s*(from|import|def|class|async)\b|\s*@", block)
    if begins and all(not line.strip() or line[:indent] == lines[0][:indent] for line in lines):
        lines = [line[indent:] for line in lines]
    return "\n".join(lines)


def defines(code: str, entry: str) -> bool:
    """Whether a code defines a name at its top level."""
    name = re.escape(entry)
    function = rf"(?:async[ \t]+)?def[ \t]+{name}[ \t]*\("
    value = rf"{name}[ \t]*(?::[^=\n]*)?=(?!=)"
    return (
        re.search(rf"^(?:{function}|class[ \t]+{name}\b|{value})", code, re.MULTILINE) is not None
    )


def extract_code(text: str, entry: str) -> str:
    """The code of a chat answer.

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
    """What the docstring of a prompt's function says before its examples; else the prompt."""
    try:
        functions = [n for n in ast.walk(ast.parse(prompt)) if isinstance(n, ast.FunctionDef)]
    except SyntaxError:
        return prompt
    text = next((ast.get_docstring(n) for n in functions if n.name == entry), None) or prompt
    return re.split(r">>>|\n\s*(?:for )?examples?\b", text, maxsplit=1, flags=re.IGNORECASE)[0]


def completed(code: str, prompt: str, entry: str) -> str:
    """The whole program of an answer to a prompt that ends within a function (HumanEval).

    An answer that defines the function needs the prompt for what stands before it only: imports and
    helpers. Any other goes on where the prompt ends.
    """
    if defines(code, entry):
        found = re.search(rf"^def[ \t]+{re.escape(entry)}\b", prompt, re.MULTILINE)
        return prompt[: found.start() if found else 0] + "\n" + code
    if code.strip() and not code.startswith((" ", "\t", "\n")):
        code = "\n".join("    " + line if line.strip() else line for line in code.split("\n"))
    return prompt.rstrip(" \t") + ("" if prompt.endswith("\n") else "\n") + code
