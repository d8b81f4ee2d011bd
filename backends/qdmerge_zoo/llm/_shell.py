"""Exercises in the shell, over text files in a working directory.

- os: pipelines of common tools
- sed: scripts of a few commands, each for some of a file's lines
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from qdmerge_zoo.llm._grammar import Drawn, Item, Op, integers, pick

Lines = list[str]
_FILES = ("log.txt", "users.txt", "notes.txt", "sales.csv", "stock.csv", "visits.csv")
_WORDS = ("ann", "bob", "cat", "dan", "eve", "fox", "gus", "hal")
_PLACES = ("home", "lab", "shop", "yard")
_FOLDERS = 200
"""Working directories of different content."""
_NO_DIGITS = str.maketrans("", "", "0123456789")
_LINES = (6, 10)
"""Fewest and most lines of a file."""
_FEW = integers(2, 5)


@dataclass(frozen=True)
class Tool:
    """One stage of a pipeline: how it is said and written, and what it does to lines. ``run``, of
    lines and the op's value, models the GNU tool under ``LC_ALL=C``.
    """

    op: Op
    run: Callable[[Lines, str], Lines] = field(repr=False)


def _cut(lines: Lines, column: str) -> Lines:
    """Like ``cut``, pass on a line without any comma whole and leave a missing field empty."""
    index = int(column) - 1
    return ["".join(line.split(",")[index : index + 1]) if "," in line else line for line in lines]


_SELECTING = (
    Tool(
        Op("grep", ("lines with {k}", "lines containing {k}"), "grep {k}", (*_WORDS, *_PLACES)),
        lambda lines, k: [line for line in lines if k in line],
    ),
    Tool(
        Op("without", ("lines without {k}",), "grep -v {k}", (*_WORDS, *_PLACES)),
        lambda lines, k: [line for line in lines if k not in line],
    ),
    Tool(
        Op("head", ("first {k} lines",), "head -n {k}", _FEW),
        lambda lines, k: lines[: int(k)],
    ),
    Tool(
        Op("tail", ("last {k} lines",), "tail -n {k}", _FEW),
        lambda lines, k: lines[-int(k) :],
    ),
    Tool(Op("cut", ("column {k}", "field {k}"), "cut -d, -f{k}", integers(1, 3)), _cut),
)
_FIRST = (*_SELECTING, Tool(Op("cat", ("text", "content"), "cat"), lambda lines, _: lines))
_NEXT = (
    Tool(Op("sort", ("sorted", "in order"), "sort"), lambda lines, _: sorted(lines)),
    Tool(
        Op("reverse", ("sorted in reverse", "in reverse order"), "sort -r"),
        lambda lines, _: sorted(lines, reverse=True),
    ),
    Tool(
        Op("unique", ("sorted without repeats",), "sort -u"),
        lambda lines, _: sorted(set(lines)),
    ),
    Tool(
        Op("uniq", ("adjacent repeats dropped",), "uniq"),
        lambda lines, _: [line for line, _ in groupby(lines)],
    ),
    Tool(Op("tac", ("last line first", "upside down"), "tac"), lambda lines, _: lines[::-1]),
    Tool(
        Op("upper", ("in upper case", "in capitals"), "tr a-z A-Z"),
        lambda lines, _: [line.upper() for line in lines],
    ),
    Tool(
        Op("spaces", ("commas as spaces",), "tr , ' '"),
        lambda lines, _: [line.replace(",", " ") for line in lines],
    ),
    Tool(
        Op("letters", ("digits deleted", "without digits"), "tr -d 0-9"),
        lambda lines, _: [line.translate(_NO_DIGITS) for line in lines],
    ),
    Tool(
        Op("rev", ("each line reversed",), "rev"),
        lambda lines, _: [line[::-1] for line in lines],
    ),
)
_COUNT = Tool(
    Op("count", ("counted", "how many lines"), "wc -l"), lambda lines, _: [str(len(lines))]
)
SHAPES = (
    (_FIRST, (*_SELECTING, *_NEXT, _COUNT)),
    (_FIRST, (*_SELECTING, *_NEXT), (*_SELECTING, *_NEXT, _COUNT)),
    (_FIRST, (*_SELECTING, *_NEXT), (*_SELECTING, *_NEXT, _COUNT)),
)
_PIPE_PROMPT = "Shell, {file}: {steps}.\n"


class Folders:
    """Working directories to run pipelines in."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._folders = [
            {name: "".join(f"{line}\n" for line in _lines(rng)) for name in names}
            for names in (rng.permutation(_FILES)[:2].tolist() for _ in range(_FOLDERS))
        ]

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where one of its stages changes nothing or leaves nothing."""
        files = pick(rng, self._folders)
        file = pick(rng, tuple(files))
        stages = [pick(rng, slot) for slot in pick(rng, SHAPES)]
        steps = [stage.op.draw(rng) for stage in stages]
        lines = files[file].splitlines()
        for stage, step in zip(stages, steps, strict=True):
            before, lines = lines, stage.run(lines, step.value)
            if not lines or (lines == before and stage.op.name != "cat"):
                return None
        first, *others = (step.code for step in steps)
        return Item(
            group="/".join(("os", *(stage.op.name for stage in stages))),
            prompt=_PIPE_PROMPT.format(file=file, steps=", ".join(step.phrase for step in steps)),
            answer=" | ".join((f"{first} {file}", *others)),
            check={"files": files, "expected": "".join(f"{line}\n" for line in lines)},
        )


def _lines(rng: np.random.Generator) -> Lines:
    """Return comma-separated lines of a word, a place and a number; some of them repeat."""
    lines: Lines = []
    while len(lines) < rng.integers(_LINES[0], _LINES[1] + 1):
        line = f"{pick(rng, _WORDS)},{pick(rng, _PLACES)},{int(rng.integers(10, 100))}"
        lines += [line] * (2 if rng.random() < 0.25 else 1)
    return lines


_SED_FILES = ("a.txt", "days.txt", "list.txt", "menu.txt", "plan.txt", "todo.txt")
SED_WORDS = ("tea", "jam", "egg", "rye", "fig", "nut", "oat", "ham")
_CONTENTS = 200
"""Files of different content."""
_SED_LINES = (5, 8)
"""Fewest and most lines of a file."""


@dataclass(frozen=True)
class Address:
    """Lines that a command is for. ``holds`` gets a line's number, whether it is the last, its
    text, and the address' value.
    """

    op: Op
    holds: Callable[[int, bool, str, str], bool] = field(repr=False)


@dataclass(frozen=True)
class Action:
    """What a command makes of a line, given two words; None deletes it."""

    op: Op
    run: Callable[[str, str, str], str | None] = field(repr=False)


def _span(number: int, value: str) -> bool:
    first, last = map(int, value.split(","))
    return first <= number <= last


ADDRESSES = (
    Address(Op("all", ("on every line",), ""), lambda n, last, text, k: True),
    Address(
        Op("line", ("on line {k}", "in line {k}"), "{k}", integers(1, 4)),
        lambda n, last, text, k: n == int(k),
    ),
    Address(Op("last", ("on the last line", "at the end"), "$"), lambda n, last, text, k: last),
    Address(
        Op("span", ("on lines {k}",), "{k}", ("1,2", "1,3", "2,3", "2,4", "3,4")),
        lambda n, last, text, k: _span(n, k),
    ),
    Address(
        Op("with", ("on lines with {k}", "where {k} is"), "/{k}/", SED_WORDS),
        lambda n, last, text, k: k in text,
    ),
    Address(
        Op("without", ("on lines without {k}",), "/{k}/!", SED_WORDS),
        lambda n, last, text, k: k not in text,
    ),
)
ACTIONS = (
    Action(Op("delete", ("delete", "drop it"), "d"), lambda text, a, b: None),
    Action(
        Op("first", ("replace {a} by {b}", "turn {a} into {b}"), "s/{a}/{b}/"),
        lambda text, a, b: text.replace(a, b, 1),
    ),
    Action(
        Op("every", ("replace each {a} by {b}", "turn each {a} into {b}"), "s/{a}/{b}/g"),
        lambda text, a, b: text.replace(a, b),
    ),
    Action(
        Op("remove", ("remove {a}", "cut {a} out"), "s/{a}//"),
        lambda text, a, b: text.replace(a, "", 1),
    ),
    Action(
        Op("append", ("append {b}", "add {b} behind"), "s/$/ {b}/"),
        lambda text, a, b: f"{text} {b}",
    ),
    Action(
        Op("prepend", ("prepend {b}", "put {b} in front"), "s/^/{b} /"),
        lambda text, a, b: f"{b} {text}",
    ),
    Action(
        Op("blanks", ("make spaces dashes", "dashes for spaces"), "y/ /-/"),
        lambda text, a, b: text.replace(" ", "-"),
    ),
)
_SED_PROMPT = "Sed, {file}: {steps}.\n"


@dataclass(frozen=True)
class Command:
    """A drawn command: an action on the lines of an address."""

    address: Address
    where: Drawn
    action: Action
    what: Drawn
    words: tuple[str, str]

    @property
    def phrase(self) -> str:
        """What the prompt says."""
        return f"{self.where.phrase} {self.what.phrase}"

    @property
    def code(self) -> str:
        """What stands in the script."""
        return f"-e '{self.where.code}{self.what.code}'"


def draw_command(rng: np.random.Generator) -> Command:
    """Draw a command that leaves some lines to others."""
    address, action = pick(rng, ADDRESSES), pick(rng, ACTIONS)
    while address.op.name == "all" and action.op.name == "delete":
        address, action = pick(rng, ADDRESSES), pick(rng, ACTIONS)
    a, b = (SED_WORDS[i] for i in rng.permutation(len(SED_WORDS))[:2])
    return Command(address, address.op.draw(rng), action, action.op.draw(rng, a=a, b=b), (a, b))


def edited(lines: Lines, commands: list[Command]) -> Lines:
    """Return what sed prints: each line runs through all commands, numbered as in the file."""
    found = []
    for number, line in enumerate(lines, start=1):
        text: str | None = line
        for command in commands:
            last = number == len(lines)
            if text is not None and command.address.holds(number, last, text, command.where.value):
                text = command.action.run(text, *command.words)
        if text is not None:
            found.append(text)
    return found


class Scripts:
    """Files to edit."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._contents = [_sed_lines(rng) for _ in range(_CONTENTS)]

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where a command changes nothing or nothing is left."""
        lines, file = pick(rng, self._contents), pick(rng, _SED_FILES)
        commands = [draw_command(rng) for _ in range(int(rng.integers(1, 4)))]
        whole = edited(lines, commands)
        without = (commands[:k] + commands[k + 1 :] for k in range(len(commands)))
        if not whole or any(edited(lines, others) == whole for others in without):
            return None
        names = (f"{c.address.op.name}.{c.action.op.name}" for c in commands)
        return Item(
            group="/".join(("sed", *names)),
            prompt=_SED_PROMPT.format(file=file, steps=", ".join(c.phrase for c in commands)),
            answer=f"sed {' '.join(c.code for c in commands)} {file}",
            check={
                "files": {file: "".join(f"{line}\n" for line in lines)},
                "expected": "".join(f"{line}\n" for line in whole),
            },
        )


def _sed_lines(rng: np.random.Generator) -> Lines:
    """Return lines of three words, some of them twice in a line."""
    count = int(rng.integers(_SED_LINES[0], _SED_LINES[1] + 1))
    return [" ".join(pick(rng, SED_WORDS) for _ in range(3)) for _ in range(count)]
