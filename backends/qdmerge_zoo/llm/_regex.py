"""Exercises in regular expressions: what Python's ``re`` finds, replaces, or splits at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qdmerge_zoo.llm._grammar import Item, Op, pick

TESTS_PER_ITEM = 5
NOISES = 400
"""Different stretches of text between matches."""


@dataclass(frozen=True)
class Atom:
    """A class of characters: how it is said and written, and characters that belong to it."""

    op: Op
    members: str


_ATOMS = (
    Atom(Op("digit", ("digit",), r"\d"), "0123456789"),
    Atom(Op("letter", ("letter", "small letter"), "[a-z]"), "abcdekmprstuxyz"),
    Atom(Op("capital", ("capital",), "[A-Z]"), "ABCDEX"),
    Atom(Op("vowel", ("vowel",), "[aeiou]"), "aeiou"),
    Atom(Op("space", ("space",), " "), " "),
    Atom(Op("sign", ("{k}",), "{k}", ("hyphen", "colon", "comma")), ""),
    Atom(Op("given", ("{k}",), "{k}", tuple("abest")), ""),
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
PROMPT = "Regex, {use}: {parts}.\n"
ANSWER = "import re\ndef f(s):\n    return {value}"


class Patterns:
    """Stretches of text to put matches between."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._noises = [_noise(rng) for _ in range(NOISES)]

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
        texts = [self._text(rng, members, counts) for _ in range(TESTS_PER_ITEM)]
        answer = ANSWER.format(value=said.code)
        scope: dict[str, object] = {}
        exec(answer, scope)
        function = scope["f"]
        assert callable(function)
        tests = [{"args": [text], "expected": function(text)} for text in texts]
        if all(test["expected"] == tests[0]["expected"] for test in tests):
            return None
        parts = (f"{a.op.name}.{c.name}" for a, c in zip(atoms, counts, strict=True))
        return Item(
            group="/".join(("regex", use.name, *parts)),
            prompt=PROMPT.format(use=said.phrase, parts=", ".join(phrases)),
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
