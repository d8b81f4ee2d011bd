"""Operating-system exercises: shell pipelines over text files in a working directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from qdmerge_zoo.llm._grammar import Item, Op, integers, pick

Lines = list[str]
FILES = ("log.txt", "users.txt", "notes.txt", "sales.csv", "stock.csv", "visits.csv")
WORDS = ("ann", "bob", "cat", "dan", "eve", "fox", "gus", "hal")
PLACES = ("home", "lab", "shop", "yard")
FOLDERS = 200
"""Working directories of different content."""
_NO_DIGITS = str.maketrans("", "", "0123456789")
LINES = (6, 10)
"""Fewest and most lines of a file."""
_FEW = integers(2, 5)


@dataclass(frozen=True)
class Tool:
    """One stage of a pipeline: how it is said and written, and what it does to lines.

    ``run`` models the GNU tool under ``LC_ALL=C``: it takes the lines and the op's value.
    """

    op: Op
    run: Callable[[Lines, str], Lines] = field(repr=False)


def _cut(lines: Lines, column: str) -> Lines:
    """Like ``cut``, pass on a line without any comma whole and leave a missing field empty."""
    index = int(column) - 1
    return ["".join(line.split(",")[index : index + 1]) if "," in line else line for line in lines]


_SELECTING = (
    Tool(
        Op("grep", ("lines with {k}", "lines containing {k}"), "grep {k}", (*WORDS, *PLACES)),
        lambda lines, k: [line for line in lines if k in line],
    ),
    Tool(
        Op("without", ("lines without {k}",), "grep -v {k}", (*WORDS, *PLACES)),
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
FIRST = (*_SELECTING, Tool(Op("cat", ("text", "content"), "cat"), lambda lines, _: lines))
NEXT = (
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
COUNT = Tool(
    Op("count", ("counted", "how many lines"), "wc -l"), lambda lines, _: [str(len(lines))]
)
SHAPES = (
    (FIRST, (*_SELECTING, *NEXT, COUNT)),
    (FIRST, (*_SELECTING, *NEXT), (*_SELECTING, *NEXT, COUNT)),
    (FIRST, (*_SELECTING, *NEXT), (*_SELECTING, *NEXT, COUNT)),
)
PROMPT = "Shell, {file}: {steps}.\n"


class Folders:
    """Working directories to run pipelines in."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._folders = [
            {name: "".join(f"{line}\n" for line in _lines(rng)) for name in names}
            for names in (rng.permutation(FILES)[:2].tolist() for _ in range(FOLDERS))
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
            prompt=PROMPT.format(file=file, steps=", ".join(step.phrase for step in steps)),
            answer=" | ".join((f"{first} {file}", *others)),
            check={"files": files, "expected": "".join(f"{line}\n" for line in lines)},
        )


def _lines(rng: np.random.Generator) -> Lines:
    """Return comma-separated lines of a word, a place and a number; some of them repeat."""
    lines: Lines = []
    while len(lines) < rng.integers(LINES[0], LINES[1] + 1):
        line = f"{pick(rng, WORDS)},{pick(rng, PLACES)},{int(rng.integers(10, 100))}"
        lines += [line] * (2 if rng.random() < 0.25 else 1)
    return lines
