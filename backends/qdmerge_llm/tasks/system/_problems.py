"""The rows of AgentBench's operating system problems in one form, and the checkers they name."""

from __future__ import annotations

import ast
import operator
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

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


def _within(answer: str, expected: str) -> bool:
    return bool(answer) and answer in expected


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "integer-match": _same(_integer),
    "string-match": _same(normal),
    "size-match": _same(size),
    "containing": lambda answer, expected: _within(normal(expected), normal(answer)),
    "in": lambda answer, expected: _within(normal(answer), normal(expected)),
}

_FORMS = (
    "{} + ({} * {}) - {}",
    "{} * ({} - {}) + {}",
    "{} / ({} + {}) - {}",
    "{} * ({} / {}) + {}",
    "({} + {}) * ({} - {})",
    "{} - {} - {} * {}.5",
    "{} / {} / {}",
    "{}.25 * {}",
)
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def sums(seed: str) -> list[str]:
    """Return what the command ``calc`` must work out."""
    draw = random.Random(seed)
    return [form.format(*(draw.randrange(2, 30) for _ in range(4))) for form in _FORMS]


def _value(node: Any) -> float:
    if isinstance(node, ast.Constant):
        return float(str(node.value))
    return float(_OPERATORS[type(node.op)](_value(node.left), _value(node.right)))


def calculator(session: Session, seed: str) -> bool:
    """Return whether the program ``calc`` works on each of the :func:`sums`, within 1e-5."""
    given = sums(seed)
    script = 'for sum; do found=$(calc "$sum") || exit 1; printf \'%s\\0\' "$found"; done'
    result = session.check("bash", script, *given)
    try:
        found = [float(part) for part in result.stdout.split(b"\0")[:-1]]
    except ValueError:
        return False
    expected = [_value(ast.parse(text, mode="eval").body) for text in given]
    return len(found) == len(expected) and all(
        abs(one - other) < 1e-5 for one, other in zip(found, expected, strict=True)
    )


CHECKERS: Sequence[str] = (*COMPARISONS, "0")
"""Names of the files that are known: the comparisons, and ``check/0.sh`` of the ``calc`` rows."""


@dataclass(frozen=True)
class Script:
    """A program that a row gives, in "bash" or "python"."""

    language: str
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
    check is a script, a name in ``CHECKERS``, or None for the output of ``example``.
    """

    init: tuple[Script, ...]
    start: str | None
    match: Match | None
    checks: tuple[Script | str | None, ...]
    example: Script | None

    @property
    def needs_example(self) -> bool:
        """Whether a check is about the example's output."""
        return None in self.checks

    @property
    def texts(self) -> list[str]:
        """The programs of set-up and checks."""
        scripts = [*self.init, *self.checks, self.example]
        return [self.start or "", *(one.code for one in scripts if isinstance(one, Script))]


_LANGUAGES = {"bash": "bash", "sh": "bash", "shell": "bash", "python": "python"}


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


@dataclass(frozen=True)
class Source:
    """Where a row's scripts come from: the ``seed`` of what is drawn at random, and the ``folder``
    of those that it names as files, which must be there if ``complete``.
    """

    seed: str
    folder: Path | None = None
    complete: bool = True

    def script(self, value: Any, where: str) -> Script | str | None:
        """Return a script in any form of the rows, the stem of a known file that is not in the
        folder, or None. Raises ValueError for another form, and for a file that is missing.
        """
        if value is None:
            return None
        if isinstance(value, str):
            return Script("bash", value)
        if not isinstance(value, Mapping):
            raise ValueError(f"'{where}' must be text, or a mapping with 'code' or 'file'")
        language = value.get("language", "bash")
        if language not in _LANGUAGES:
            raise ValueError(f"'{where}' is in {language!r}; bash and python are understood")
        if isinstance(value.get("file"), str):
            return self._file(value["file"], _LANGUAGES[language], where)
        if isinstance(value.get("code"), str):
            return Script(_LANGUAGES[language], value["code"])
        raise ValueError(f"'{where}' needs 'code' or 'file'")

    def _file(self, name: str, language: str, where: str) -> Script | str:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"'{where}' names the file {name!r}, which is no path in a folder")
        if self.folder is not None and (self.folder / path).is_file():
            try:
                return Script(language, (self.folder / path).read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"'{where}': cannot read {self.folder / path}: {error}") from error
        if where == "create.init" and path.stem in _INIT_FILES:
            return _INIT_FILES[path.stem](self.seed)
        if where == "evaluation.check" and path.stem in CHECKERS:
            return path.stem
        if not self.complete:
            return Script(language, "")
        where = f"'{where}' names the file {name!r}, which"
        if self.folder is None:
            raise ValueError(f"{where} did not come with the rows; set 'scripts' to its folder")
        raise ValueError(f"{where} is not in {self.folder}")


def _start(script: Script | str | None) -> str | None:
    if isinstance(script, Script) and script.language != "bash":
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


def understand(row: Mapping[str, Any], source: Source) -> Problem:
    """Return what a row means. Raises ValueError for another form, and for files that are missing
    where there is a folder of them.
    """
    create = row.get("create")
    create = create if isinstance(create, Mapping) else {}  # one row of the original has a list
    evaluation = row.get("evaluation")
    if not isinstance(evaluation, Mapping):
        raise ValueError("'evaluation' must be a mapping with 'match' or 'check'")
    init = [source.script(one, "create.init") for one in _listed(create.get("init"))]
    start = _start(source.script(row.get("start", create.get("start")), "start"))
    match = _match(evaluation.get("match"))
    checks: tuple[Script | str | None, ...] = ()
    example = None
    if match is None:
        given = _listed(evaluation.get("check"))
        checks = tuple(source.script(check, "evaluation.check") for check in given)
        if checks == (None,):
            raise ValueError("'evaluation' needs 'match' or 'check'")
        if checks != ("0",):
            example = source.script(evaluation.get("example", row.get("example")), "example")
        if None in checks and not isinstance(example, Script):
            raise ValueError("a check that is null needs 'example' as text, 'code' or 'file'")
    scripts = tuple(script for script in init if isinstance(script, Script))
    return Problem(scripts, start, match, checks, example if isinstance(example, Script) else None)
