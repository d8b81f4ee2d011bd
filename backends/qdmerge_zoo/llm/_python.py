"""Exercises in Python, which unit tests check.

- coding: functions that keep, change and combine the parts of a value
- regex: what Python's ``re`` finds, replaces, or splits at
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from qdmerge_zoo.llm._grammar import Item, Op, integers, pick

_TESTS_PER_ITEM = 5
_ARGUMENT_SETS = 200
"""Different sets of test arguments for each kind of argument."""
_SMALL = integers(2, 9)

_RETURN_LIST = Op("list", ("the list of the", "a list with the"), "[{parts}]")
_RETURN_SEVERAL = (
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
    _RETURN_LIST,
    Op("sum", ("the sum of the", "the total of the"), "sum([{parts}])"),
    Op("largest", ("the largest of the", "the maximum of the"), "max([{parts}], default=0)"),
    Op("smallest", ("the smallest of the", "the minimum of the"), "min([{parts}], default=0)"),
    *_RETURN_SEVERAL,
)
_OF_NUMBERS = (_KEEP_NUMBERS, _CHANGE_NUMBERS, _RETURN_NUMBERS)
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
    _RETURN_LIST,
    Op("count", ("how many of the", "the number of"), "len([{parts}])"),
    *_RETURN_SEVERAL,
)
_OF_LETTERS = (_KEEP_LETTERS, _CHANGE_LETTERS, _RETURN_LETTERS)


@dataclass(frozen=True, eq=False)
class _Family:
    """Functions of one kind of argument: its name, its parts, and what can be done with them. Two
    families never share an answer: they differ in the name or in the parts.
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


_FAMILIES = (
    _Family(
        "x",
        (
            Op("list", ("numbers in x", "values of x"), "x"),
            Op("tail", ("numbers in x after the first",), "x[1:]"),
        ),
        *_OF_NUMBERS,
        _numbers,
    ),
    _Family(
        "n",
        (
            Op("range", ("integers up to n", "numbers from 0 to n"), "range(n + 1)"),
            Op("digits", ("digits of n", "digits in n"), "map(int, str(n))"),
        ),
        *_OF_NUMBERS,
        _count,
    ),
    _Family("s", (Op("letters", ("letters of s", "characters of s"), "s"),), *_OF_LETTERS, _word),
)
_CODING_PROMPTS = ("# f({name}) returns {what}.\n", "# Write f({name}): {what}.\n")
_CODING_ANSWER = "def f({name}):\n    return {value}"


class Functions:
    """Arguments to test functions on."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._arguments = {
            family: [
                tuple(family.argument(rng) for _ in range(_TESTS_PER_ITEM))
                for _ in range(_ARGUMENT_SETS)
            ]
            for family in _FAMILIES
        }

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where its gold function is constant on the arguments."""
        family = pick(rng, _FAMILIES)
        slots = (family.sources, family.keeps, family.changes, family.returns)
        ops = [pick(rng, slot) for slot in slots]
        source, keep, change = (op.draw(rng) for op in ops[:3])
        result = ops[3].draw(rng, parts=f"{change.code} for v in {source.code}{keep.code}")
        what = f"{result.phrase} {source.phrase}{keep.phrase}{change.phrase}"
        answer = _CODING_ANSWER.format(name=family.name, value=result.code)
        function = _function(answer)
        tests = [{"args": [x], "expected": function(x)} for x in pick(rng, self._arguments[family])]
        if all(test["expected"] == tests[0]["expected"] for test in tests):
            return None
        return Item(
            group="/".join(("coding", *(op.name for op in ops))),
            prompt=pick(rng, _CODING_PROMPTS).format(name=family.name, what=what),
            answer=answer,
            check={"entry": "f", "tests": tests},
        )


@cache
def _function(answer: str) -> Callable[[Any], Any]:
    """Compile a gold answer; there are fewer of them than exercises."""
    scope: dict[str, Any] = {}
    exec(answer, scope)
    return scope["f"]


_NOISES = 400
"""Different stretches of text between matches."""


@dataclass(frozen=True)
class _Atom:
    """A class of characters: how it is said and written, and characters that belong to it."""

    op: Op
    members: str


_ATOMS = (
    _Atom(Op("digit", ("digit",), r"\d"), "0123456789"),
    _Atom(Op("letter", ("letter", "small letter"), "[a-z]"), "abcdekmprstuxyz"),
    _Atom(Op("capital", ("capital",), "[A-Z]"), "ABCDEX"),
    _Atom(Op("vowel", ("vowel",), "[aeiou]"), "aeiou"),
    _Atom(Op("space", ("space",), " "), " "),
    _Atom(Op("sign", ("{k}",), "{k}", ("hyphen", "colon", "comma")), ""),
    _Atom(Op("given", ("{k}",), "{k}", tuple("abest")), ""),
)
_SIGNS = {"hyphen": "-", "colon": ":", "comma": ","}
_COUNTS = (
    Op("one", ("a {what}", "one {what}"), "{atom}"),
    Op("more", ("one or more {what}s", "some {what}s"), "{atom}+"),
    Op("two", ("two {what}s",), "{atom}{{2}}"),
    Op("maybe", ("an optional {what}", "maybe a {what}"), "{atom}?"),
)
_LENGTHS = {"one": (1, 1), "more": (1, 3), "two": (2, 2), "maybe": (0, 1)}
_USES = (
    Op("all", ("all matches of", "every"), 're.findall(r"{pattern}", s)'),
    Op("count", ("how many times", "the number of"), 'len(re.findall(r"{pattern}", s))'),
    Op("mark", ("s with {k} for each",), 're.sub(r"{pattern}", "{k}", s)', tuple("_=+")),
    Op("drop", ("s without each", "s with nothing for each"), 're.sub(r"{pattern}", "", s)'),
    Op("split", ("s split at each", "the parts of s between"), 're.split(r"{pattern}", s)'),
)
_REGEX_PROMPT = "Regex, {use}: {parts}.\n"
_REGEX_ANSWER = "import re\ndef f(s):\n    return {value}"


class Patterns:
    """Stretches of text to put matches between."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._noises = [_noise(rng) for _ in range(_NOISES)]

    def draw(self, rng: np.random.Generator) -> Item | None:
        """Draw one exercise, or None where its pattern may match nothing or says nothing new."""
        atoms = [pick(rng, _ATOMS) for _ in range(int(rng.integers(2, 4)))]
        counts = [pick(rng, _COUNTS) for _ in atoms]
        if all(count.name == "maybe" for count in counts):
            return None
        phrases, pattern = [], ""
        members: list[str] = []
        for atom, count in zip(atoms, counts, strict=True):
            what = atom.op.draw(rng)
            code = _SIGNS.get(what.code, what.code)
            members.append(atom.members or code)
            part = count.draw(rng, what=what.phrase, atom=code)
            phrases.append(part.phrase)
            pattern += part.code
        use = pick(rng, _USES)
        said = use.draw(rng, pattern=pattern)
        texts = [self._text(rng, members, counts) for _ in range(_TESTS_PER_ITEM)]
        answer = _REGEX_ANSWER.format(value=said.code)
        function = _function(answer)
        tests = [{"args": [text], "expected": function(text)} for text in texts]
        if all(test["expected"] == tests[0]["expected"] for test in tests):
            return None
        parts = (f"{a.op.name}.{c.name}" for a, c in zip(atoms, counts, strict=True))
        return Item(
            group="/".join(("regex", use.name, *parts)),
            prompt=_REGEX_PROMPT.format(use=said.phrase, parts=", ".join(phrases)),
            answer=answer,
            check={"entry": "f", "tests": tests},
        )

    def _text(self, rng: np.random.Generator, members: list[str], counts: list[Op]) -> str:
        """Return one or two matches, and what may be a near miss, amid other text."""
        text = pick(rng, self._noises)
        lengths = [_LENGTHS[count.name] for count in counts]
        matches = [lengths] * int(rng.integers(1, 3))
        for several in (*matches, [(1, 2)] * len(members)):
            runs = (_run(rng, m, *bounds) for m, bounds in zip(members, several, strict=True))
            text += "".join(runs) + pick(rng, self._noises)
        return text


def _run(rng: np.random.Generator, members: str, fewest: int, most: int) -> str:
    return "".join(pick(rng, members) for _ in range(int(rng.integers(fewest, most + 1))))


def _noise(rng: np.random.Generator) -> str:
    """Return up to three runs of characters, each of one class."""
    kinds = (pick(rng, _ATOMS).members or "-:,abest" for _ in range(int(rng.integers(4))))
    return "".join(_run(rng, members, 1, 2) for members in kinds)
