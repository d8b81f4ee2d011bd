"""Coding exercises: small Python functions that keep, change and combine the parts of a value."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from qdmerge_zoo.llm._grammar import Item, Op, integers, pick

TESTS_PER_ITEM = 5
ARGUMENT_SETS = 200
"""Different sets of test arguments for each kind of argument."""
_SMALL = integers(2, 9)

_KEEP_NUMBERS = (
    Op("all", ("",), ""),
    Op("even", (" that are even", " that are divisible by 2"), " if v % 2 == 0"),
    Op("odd", (" that are odd", " that are not even"), " if v % 2 == 1"),
    Op("multiple", (" that are multiples of {k}",), " if v % {k} == 0", integers(3, 6)),
    Op("above", (" above {k}", " greater than {k}"), " if v > {k}", _SMALL),
    Op("below", (" below {k}", " smaller than {k}"), " if v < {k}", _SMALL),
    Op("least", (" that are at least {k}",), " if v >= {k}", _SMALL),
    Op("not", (" other than {k}", " different from {k}"), " if v != {k}", _SMALL),
)
_CHANGE_NUMBERS = (
    Op("same", ("",), "v"),
    Op("double", (", doubled", ", times two"), "v * 2"),
    Op("square", (", squared", ", times themselves"), "v * v"),
    Op("negate", (", negated", ", with the sign changed"), "-v"),
    Op("plus", (", plus {k}", ", increased by {k}"), "v + {k}", _SMALL),
    Op("minus", (", minus {k}", ", decreased by {k}"), "v - {k}", _SMALL),
    Op("halve", (", halved", ", divided by two"), "v // 2"),
    Op("modulo", (", modulo {k}",), "v % {k}", _SMALL),
    Op("abs", (", without sign", ", as absolute values"), "abs(v)"),
)
_RETURN_NUMBERS = (
    Op("list", ("the list of the", "a list with the"), "[{parts}]"),
    Op("sum", ("the sum of the", "the total of the"), "sum([{parts}])"),
    Op("largest", ("the largest of the", "the maximum of the"), "max([{parts}], default=0)"),
    Op("smallest", ("the smallest of the", "the minimum of the"), "min([{parts}], default=0)"),
    Op("sorted", ("the sorted list of the", "the sorted"), "sorted([{parts}])"),
    Op("reversed", ("the reversed list of the", "the list in reverse of the"), "[{parts}][::-1]"),
    Op(
        "first",
        ("the first {k} of the", "a list of the first {k}"),
        "[{parts}][:{k}]",
        integers(2, 3),
    ),
    Op(
        "different",
        ("how many different values of the", "the number of distinct"),
        "len(set([{parts}]))",
    ),
)
_KEEP_LETTERS = (
    Op("all", ("",), ""),
    Op("vowels", (" that are vowels",), ' if v in "aeiou"'),
    Op("others", (" that are not vowels",), ' if v not in "aeiou"'),
    Op("before", (" before {k}", " that come before {k}"), ' if v < "{k}"', tuple("hkmp")),
    Op("after", (" after {k}", " that come after {k}"), ' if v > "{k}"', tuple("hkmp")),
    Op("not", (" other than {k}", " different from {k}"), ' if v != "{k}"', tuple("abest")),
)
_CHANGE_LETTERS = (
    Op("same", ("",), "v"),
    Op("upper", (", in upper case", ", as capitals"), "v.upper()"),
    Op("double", (", doubled", ", written twice"), "v * 2"),
    Op("append", (", each followed by {k}",), 'v + "{k}"', tuple("xyz")),
    Op("prepend", (", each preceded by {k}",), '"{k}" + v', tuple("xyz")),
    Op("code", (", as codes", ", as numbers"), "ord(v)"),
)
_RETURN_LETTERS = (
    Op("list", ("the list of the", "a list with the"), "[{parts}]"),
    Op("count", ("how many of the", "the number of"), "len([{parts}])"),
    Op("sorted", ("the sorted list of the", "the sorted"), "sorted([{parts}])"),
    Op("reversed", ("the reversed list of the", "the list in reverse of the"), "[{parts}][::-1]"),
    Op(
        "first",
        ("the first {k} of the", "a list of the first {k}"),
        "[{parts}][:{k}]",
        integers(2, 3),
    ),
    Op(
        "different",
        ("how many different values of the", "the number of distinct"),
        "len(set([{parts}]))",
    ),
)


@dataclass(frozen=True, eq=False)
class Family:
    """Functions of one kind of argument: its name, its parts, and what can be done with them.

    Two families never share an answer: they differ in the name or in the parts.
    """

    name: str
    sources: tuple[Op, ...]
    keeps: tuple[Op, ...]
    changes: tuple[Op, ...]
    returns: tuple[Op, ...]
    argument: Callable[[np.random.Generator], Any]


def _numbers(rng: np.random.Generator) -> list[int]:
    return [int(v) for v in rng.integers(-5, 16, size=int(rng.integers(4, 9)))]


def _count(rng: np.random.Generator) -> int:
    return int(rng.integers(3, 25))


def _word(rng: np.random.Generator) -> str:
    letters = rng.integers(26, size=int(rng.integers(4, 10)))
    return "".join(string.ascii_lowercase[i] for i in letters)


FAMILIES = (
    Family(
        name="x",
        sources=(
            Op("list", ("numbers in x", "values of x"), "x"),
            Op("tail", ("numbers in x after the first",), "x[1:]"),
        ),
        keeps=_KEEP_NUMBERS,
        changes=_CHANGE_NUMBERS,
        returns=_RETURN_NUMBERS,
        argument=_numbers,
    ),
    Family(
        name="n",
        sources=(
            Op("range", ("integers up to n", "numbers from 0 to n"), "range(n + 1)"),
            Op("digits", ("digits of n", "digits in n"), "map(int, str(n))"),
        ),
        keeps=_KEEP_NUMBERS,
        changes=_CHANGE_NUMBERS,
        returns=_RETURN_NUMBERS,
        argument=_count,
    ),
    Family(
        name="s",
        sources=(Op("letters", ("letters of s", "characters of s"), "s"),),
        keeps=_KEEP_LETTERS,
        changes=_CHANGE_LETTERS,
        returns=_RETURN_LETTERS,
        argument=_word,
    ),
)
PROMPTS = ("# f({name}) returns {what}.\n", "# Write f({name}): {what}.\n")
ANSWER = "def f({name}):\n    return {value}"


class Functions:
    """Arguments to test functions on."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._arguments = {
            family: [
                tuple(family.argument(rng) for _ in range(TESTS_PER_ITEM))
                for _ in range(ARGUMENT_SETS)
            ]
            for family in FAMILIES
        }

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where its gold function is constant on the arguments."""
        family = pick(rng, FAMILIES)
        slots = (family.sources, family.keeps, family.changes, family.returns)
        ops = [pick(rng, slot) for slot in slots]
        source, keep, change = (op.draw(rng) for op in ops[:3])
        result = ops[3].draw(rng, parts=f"{change.code} for v in {source.code}{keep.code}")
        what = f"{result.phrase} {source.phrase}{keep.phrase}{change.phrase}"
        answer = ANSWER.format(name=family.name, value=result.code)
        function = _function(answer)
        tests = [{"args": [x], "expected": function(x)} for x in pick(rng, self._arguments[family])]
        if all(test["expected"] == tests[0]["expected"] for test in tests):
            return None
        return Item(
            group="/".join(("coding", *(op.name for op in ops))),
            prompt=pick(rng, PROMPTS).format(name=family.name, what=what),
            answer=answer,
            check={"entry": "f", "tests": tests},
        )


@cache
def _function(answer: str) -> Callable[[Any], Any]:
    """Compile a gold answer; there are fewer of them than exercises."""
    scope: dict[str, Any] = {}
    exec(answer, scope)
    return scope["f"]
