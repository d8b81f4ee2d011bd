"""The rows of AgentBench's operating system problems in one form, and the checkers they name."""

from __future__ import annotations

import ast
import operator
import random
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

from qdmerge_llm.sandbox import Session


def normal(text: str) -> str:
    """Return text with one kind of line ends, stripped."""
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _integer(text: str) -> int | None:
    try:
        return int(normal(text))
    except ValueError:
        return None


_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([BKMGTP]?)(?:i?B)?", re.IGNORECASE)


def size(text: str) -> float | None:
    """Return the bytes of a size such as ``12K`` or ``1.5 MB`` (binary units), or None."""
    match = _SIZE.fullmatch(normal(text))
    return float(match[1]) * _UNITS[match[2].upper()] if match else None


def _same(read: Callable[[str], Any]) -> Callable[[str, str], bool]:
    return lambda answer, expected: read(answer) is not None and read(answer) == read(expected)


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "integer-match": _same(_integer),
    "string-match": _same(normal),
    "size-match": _same(size),
    "containing": lambda answer, expected: normal(expected) in normal(answer),
    "in": lambda answer, expected: normal(answer) in normal(expected),
}

# What the command must work out, with the shell's own expansion of file names in the way or not.
SUMS = ("1+2", "2 * (9 / 3)", "10 - 4 - 3", "7 / 2", "(1 + 2) * (3 + 4)", "1 / 3", "2 * 1", "0.5*8")
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _value(node: Any) -> float:
    if isinstance(node, ast.Constant):
        return float(str(node.value))
    return float(_OPERATORS[type(node.op)](_value(node.left), _value(node.right)))


def calculator(session: Session) -> bool:
    """Return whether the command ``calc`` works on each of ``SUMS``, within 1e-5. It may be a
    program, or a function or alias in ``~/.bashrc``.
    """
    script = "shopt -s expand_aliases\n. ~/.bashrc\n" + "\n".join(
        f"calc '{text}' || exit 1" for text in SUMS
    )
    result = session.run(["bash", "-c", script])
    lines = result.stdout.decode("utf-8", "replace").split()
    try:
        found = [float(line) for line in lines]
    except ValueError:
        return False
    expected = [_value(ast.parse(text, mode="eval").body) for text in SUMS]
    return len(found) == len(expected) and all(
        abs(one - other) < 1e-5 for one, other in zip(found, expected, strict=True)
    )


CHECKERS: Sequence[str] = (*COMPARISONS, "0")
"""Names of the files that are known: the comparisons, and ``check/0.sh`` of the ``calc`` rows."""


@dataclass(frozen=True)
class Script:
    """A program that a row gives, run by ``interpreter -c code``."""

    interpreter: str
    code: str


@dataclass(frozen=True)
class Match:
    """The answer, or a regular expression to find in it (``regex``); with ``strip``, space around
    the answer does not count.
    """

    text: str
    regex: bool = False
    strip: bool = True

    def accepts(self, answer: str) -> bool:
        """Return whether an answer is right."""
        if self.regex:
            return re.search(self.text, answer.strip() if self.strip else answer) is not None
        return normal(answer) == normal(self.text) if self.strip else answer == self.text


@dataclass(frozen=True)
class Problem:
    """What a row means: ``init`` prepares the system, the episode's shell runs ``start`` first. A
    check is a script, a name in ``CHECKERS``, or None to run ``example``, a perfect agent's.
    """

    init: tuple[Script, ...]
    start: str | None
    match: Match | None
    checks: tuple[Script | str | None, ...]
    example: Script | None


_INTERPRETERS = {"bash": "bash", "sh": "bash", "shell": "bash", "python": "python3"}


def stock_log(seed: str) -> str:
    """Return the log of the rows about stocks: 401 lines of purchases and sales."""
    draw = random.Random(seed)
    return "".join(
        f"{draw.choice(('Alice', 'Bob'))} | {draw.choice(('Purchase', 'Sell'))} | "
        f"{draw.randrange(100)} | {draw.randrange(1000)}\n"
        for _ in range(401)
    )


def _stock_log_script(seed: str) -> Script:
    return Script("bash", f"cat > /usr/stock.log <<'EOF'\n{stock_log(seed)}EOF\n")


_INIT_FILES = {"stock-log": _stock_log_script}


def _script(value: Any, where: str, seed: str = "") -> Script | str | None:
    """Return a script in any form of the rows, or the stem of a known file; or raise ValueError."""
    if value is None:
        return None
    if isinstance(value, str):
        return Script("bash", value)
    if not isinstance(value, Mapping):
        raise ValueError(f"'{where}' must be text, or a mapping with 'code' or 'file'")
    language = value.get("language", "bash")
    if isinstance(value.get("code"), str):
        if language not in _INTERPRETERS:
            raise ValueError(f"'{where}' is in {language!r}; bash and python are understood")
        return Script(_INTERPRETERS[language], value["code"])
    if isinstance(value.get("file"), str):
        name = PurePosixPath(value["file"]).stem
        if where in ("evaluation.check", "example"):
            return name
        if where == "create.init" and name in _INIT_FILES:
            return _INIT_FILES[name](seed)
        _unknown(value["file"], where, _INIT_FILES)
    raise ValueError(f"'{where}' needs 'code' or 'file'")


def _unknown(file: str, where: str, known: Collection[str]) -> NoReturn:
    raise ValueError(
        f"'{where}' names the file {file!r}, which did not come with the rows; give its text as "
        f"'code' (known by name: {', '.join(known)})"
    )


def _init(value: Any, seed: str) -> tuple[Script, ...]:
    scripts = [_script(one, "create.init", seed) for one in _listed(value)]
    return tuple(script for script in scripts if isinstance(script, Script))


def _start(value: Any) -> str | None:
    script = _script(value, "start")
    if isinstance(script, Script) and script.interpreter != "bash":
        raise ValueError("'start' is what the episode's shell runs, so it must be bash")
    return script.code if isinstance(script, Script) else None


def _match(value: Any) -> Match | None:
    if value is None or isinstance(value, str):
        return None if value is None else Match(value)
    wrong = "'evaluation.match' must be text, or a mapping with 'answer' or 'regex' as text"
    if not isinstance(value, Mapping):
        raise ValueError(wrong)
    regex = "answer" not in value
    text, strip = value.get("regex" if regex else "answer"), value.get("strip", True)
    if not isinstance(text, str) or not isinstance(strip, bool):
        raise ValueError(f"{wrong}, and maybe 'strip', true or false")
    try:
        re.compile(text if regex else "")
    except re.error as error:
        raise ValueError(f"'evaluation.match': 'regex' is none: {error}") from error
    return Match(text, regex, strip)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def understand(row: Mapping[str, Any], seed: str) -> Problem:
    """Return what a row means; ``seed`` decides what its files draw at random. Raises ValueError
    for another form.
    """
    create = row.get("create")
    create = create if isinstance(create, Mapping) else {}  # one row of the original has a list
    evaluation = row.get("evaluation")
    if not isinstance(evaluation, Mapping):
        raise ValueError("'evaluation' must be a mapping with 'match' or 'check'")
    init = _init(create.get("init"), seed)
    start = _start(row.get("start", create.get("start")))
    example = _script(evaluation.get("example", row.get("example")), "example")
    match = _match(evaluation.get("match"))
    checks: tuple[Script | str | None, ...] = ()
    if match is None:
        given = _listed(evaluation.get("check"))
        checks = tuple(_script(check, "evaluation.check") for check in given)
        for check, value in zip(checks, given, strict=True):
            if isinstance(check, str) and check not in CHECKERS:
                _unknown(value["file"], "evaluation.check", CHECKERS)
        if checks == (None,):
            raise ValueError("'evaluation' needs 'match' or 'check'")
        if None in checks and not isinstance(example, Script):
            raise ValueError("a check that is null needs 'example' as text or 'code'")
    return Problem(init, start, match, checks, example if isinstance(example, Script) else None)
