"""Exercises in sed: scripts of a few commands, each for some of a file's lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from qdmerge_zoo.llm._grammar import Drawn, Item, Op, integers, pick

FILES = ("a.txt", "days.txt", "list.txt", "menu.txt", "plan.txt", "todo.txt")
WORDS = ("tea", "jam", "egg", "rye", "fig", "nut", "oat", "ham")
CONTENTS = 200
"""Files of different content."""
LINES = (5, 8)
"""Fewest and most lines of a file."""


@dataclass(frozen=True)
class Address:
    """Lines that a command is for; ``holds`` is told number, whether it is the last, and text."""

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
        Op("with", ("on lines with {k}", "where {k} is"), "/{k}/", WORDS),
        lambda n, last, text, k: k in text,
    ),
    Address(
        Op("without", ("on lines without {k}",), "/{k}/!", WORDS),
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
PROMPT = "Sed, {file}: {steps}.\n"


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
    a, b = (WORDS[i] for i in rng.permutation(len(WORDS))[:2])
    return Command(address, address.op.draw(rng), action, action.op.draw(rng, a=a, b=b), (a, b))


def edited(lines: list[str], commands: list[Command]) -> list[str]:
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
        self._contents = [_lines(rng) for _ in range(CONTENTS)]

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where a command changes nothing or nothing is left."""
        lines, file = pick(rng, self._contents), pick(rng, FILES)
        commands = [draw_command(rng) for _ in range(int(rng.integers(1, 4)))]
        whole = edited(lines, commands)
        without = (commands[:k] + commands[k + 1 :] for k in range(len(commands)))
        if not whole or any(edited(lines, others) == whole for others in without):
            return None
        names = (f"{c.address.op.name}.{c.action.op.name}" for c in commands)
        return Item(
            group="/".join(("sed", *names)),
            prompt=PROMPT.format(file=file, steps=", ".join(c.phrase for c in commands)),
            answer=f"sed {' '.join(c.code for c in commands)} {file}",
            check={
                "files": {file: "".join(f"{line}\n" for line in lines)},
                "expected": "".join(f"{line}\n" for line in whole),
            },
        )


def _lines(rng: np.random.Generator) -> list[str]:
    """Return lines of three words, some of them twice in a line."""
    count = int(rng.integers(LINES[0], LINES[1] + 1))
    return [" ".join(pick(rng, WORDS) for _ in range(3)) for _ in range(count)]
