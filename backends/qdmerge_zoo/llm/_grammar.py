"""What the grammars share: a slot's choices, drawing from them, the item they produce."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")


class Drawn(NamedTuple):
    """A drawn choice: its wording, its code, and the value that stands in both ("" without one)."""

    phrase: str
    code: str
    value: str


@dataclass(frozen=True)
class Op:
    """One choice for one slot of a grammar: any of ``phrases`` stands in the prompt, ``code`` in
    the answer; ``values`` are those of the field ``{k}`` in both, empty without one.
    """

    name: str
    phrases: tuple[str, ...]
    code: str
    values: tuple[str, ...] = ()

    def draw(self, rng: np.random.Generator, **names: str) -> Drawn:
        """Draw a wording and a value; fill ``names`` and the value into wording and code."""
        value = pick(rng, self.values) if self.values else ""
        phrase = pick(rng, self.phrases).format(k=value, **names)
        return Drawn(phrase, self.code.format(k=value, **names), value)


@dataclass(frozen=True)
class Item:
    """One exercise: a prompt, its gold answer, and what is needed to check any answer.

    Attributes:
        group: The combination of operations, wording and values left out.
        prompt: What the model reads.
        answer: What it should write.
        check: The fields by which an answer is executed and judged.
    """

    group: str
    prompt: str
    answer: str
    check: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """A name that depends on the content alone."""
        return hashlib.sha256(f"{self.prompt}\0{self.answer}".encode()).hexdigest()[:16]

    def record(self) -> dict[str, Any]:
        """Return the item as one flat JSON-able mapping."""
        return {
            "id": self.id,
            "group": self.group,
            "prompt": self.prompt,
            "answer": self.answer,
            **self.check,
        }


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """Return one of ``choices``, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def integers(first: int, last: int) -> tuple[str, ...]:
    """Return the integers from ``first`` to ``last`` as text, both ends included."""
    return tuple(str(k) for k in range(first, last + 1))
