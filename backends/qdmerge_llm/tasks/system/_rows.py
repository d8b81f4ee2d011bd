"""The rows of AgentBench's operating system problems, brought into one form."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NoReturn

from qdmerge_llm.tasks.system._checks import CHECKERS, normal


@dataclass(frozen=True)
class Script:
    """A program that a row gives, run by ``interpreter -c code``."""

    interpreter: str
    code: str


@dataclass(frozen=True)
class Match:
    """What an answer is compared with.

    Attributes:
        text: The answer, or the regular expression that is to be found in it.
        regex: Whether it is the latter.
        strip: Whether space around an answer does not count.
    """

    text: str
    regex: bool = False
    strip: bool = True

    def accepts(self, answer: str) -> bool:
        """Whether an answer is right."""
        if self.regex:
            return re.search(self.text, answer.strip() if self.strip else answer) is not None
        return normal(answer) == normal(self.text) if self.strip else answer == self.text


@dataclass(frozen=True)
class Problem:
    """What a row means.

    Attributes:
        init: What prepares the system, in order.
        start: What the episode's shell runs first, or None.
        match: What an answer is compared with, or None.
        checks: Checkers in order: a script, the name of one in ``CHECKERS``, or None for "run the
            example".
        example: What a perfect agent runs, or None.
    """

    init: tuple[Script, ...]
    start: str | None
    match: Match | None
    checks: tuple[Script | str | None, ...]
    example: Script | None


_INTERPRETERS = {"bash": "bash", "sh": "bash", "shell": "bash", "python": "python3"}


def stock_log(seed: str) -> str:
    """The log of the rows about stocks: 401 lines of who bought or sold which and how many."""
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
    """A script in any of the forms of the rows, or the stem of a known file.

    Raises:
        ValueError: It has another form.
    """
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
    """What a row means.

    Args:
        row: The row.
        seed: Of what its files draw at random.

    Raises:
        ValueError: It is not of the form.
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
