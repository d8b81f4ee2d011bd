"""EvalPlus' protocol (Liu et al. 2023, NeurIPS): inputs of its rows, and when an output is right.

Facts of the package evalplus 0.3.1; task numbers are MBPP's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qdmerge_llm.tasks._values import are_floats, same_output

Change = Callable[[Any], Any]


def _members(change: Change) -> Change:
    return lambda value: [change(member) for member in value]


def _at(*changes: Change | None) -> Change:
    """Change the arguments at the first places, leave the others."""

    def change(arguments: Sequence[Any]) -> list[Any]:
        if len(arguments) < len(changes):
            raise ValueError(f"{len(changes)} arguments expected")
        rest = arguments[len(changes) :]
        return [c(a) if c else a for c, a in zip(changes, arguments, strict=False)] + list(rest)

    return change


def _deep(value: Any) -> Any:
    return tuple(map(_deep, value)) if isinstance(value, list) else value


def _members_if_lists(value: Any) -> list[Any]:
    return [tuple(member) if isinstance(member, list) else member for member in value]


def _set(value: Any) -> Any:
    return set(value) if isinstance(value, list) and value else {}


def _values(value: Mapping[Any, Any]) -> dict[Any, Any]:
    return {key: tuple(member) for key, member in value.items()}


_LISTS_OF_TUPLES = _members(tuple)
_CHANGES: tuple[tuple[Change, str], ...] = (
    (
        _members(tuple),
        "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809",
    ),
    (_members(_LISTS_OF_TUPLES), "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780"),
    (_at(_LISTS_OF_TUPLES), "75 413 444 753"),
    (_at(None, tuple), "106 750"),
    (_at(_members(_set)), "115"),
    (_at(float, complex), "124"),
    (_at(tuple), "250 307 405 446 617 720 763 808"),
    (_at(complex), "252"),
    (_members(lambda value: tuple(map(tuple, value))), "259 401 445"),
    (_at(lambda value: tuple(_members_if_lists(value))), "278"),
    (_at(_values), "722"),
    (_deep, "580 615 791"),
)
_BY_TASK = {int(number): change for change, numbers in _CHANGES for number in numbers.split()}
"""What makes of the JSON arguments of a task what its function takes; others take them as is."""

_AS_SETS = {
    "similar_elements",
    "find_char_long",
    "common_in_nested_lists",
    "extract_singly",
    "larg_nnum",
    "intersection_array",
    "find_dissimilar",
    "Diff",
}
_PRESENT = {"check_str", "text_match_three", "text_starta_endb"}


def task_number(row: Mapping[str, Any]) -> int | None:
    """Return the number of the task of MBPP that a row of EvalPlus is; None for other rows.

    Its ``task_id`` is ``Mbpp/NUMBER``, or the number where there is a ``contract``, too.
    """
    name = row.get("task_id")
    if isinstance(name, str) and re.fullmatch(r"Mbpp/\d{1,9}", name):
        return int(name.split("/")[1])
    return name if isinstance(name, int) and "contract" in row else None


def arguments(number: int, given: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments of a call from those of a row.

    Raises:
        ValueError, TypeError or AttributeError: They are not of the task's form.
    """
    return tuple(_BY_TASK.get(number, list)(given))


class Oracle:
    """Judges the outputs of one function, input by input.

    Args:
        entry: The function.
        mbpp: Whether it is a task of MBPP, else of HumanEval.
        atol: Allowed difference of the row.
        sets: Whether outputs are compared as sets, beside the tasks known for it.
    """

    def __init__(self, entry: str, mbpp: bool, atol: float, sets: bool = False) -> None:
        self._atol = atol
        self._sets = mbpp and (sets or entry in _AS_SETS)
        self._present = mbpp and entry in _PRESENT
        self._own = (_MBPP if mbpp else _HUMANEVAL).get(entry)
        self._alone = self._own is _is_root

    def right(self, given: Sequence[Any], value: Any, expected: Any, alike: bool) -> bool:
        """Return whether an output is right. Inputs come in their order: once a float was expected,
        all that follow may differ in rounding.

        Args:
            given: The arguments.
            value: The output.
            expected: That of the reference.
            alike: Whether both were of one type where they were made.
        """
        if self._present:
            there = expected is not None
            return value == there if isinstance(value, bool) else there == (value is not None)
        self._atol = self._atol or (1e-6 if are_floats(expected) else 0.0)
        try:
            if self._own and self._own(value, self._atol, *given):
                return True
            if self._sets and set(value) == set(expected):
                return True
        except (ArithmeticError, TypeError, ValueError):
            return False
        return not self._alone and same_output(value, expected, self._atol, alike)


def _surface(value: Any, atol: float, base: float, height: float) -> bool:
    """The surface of a pyramid, where "height" is its own and not that of a side."""
    slant = math.sqrt((base / 2) ** 2 + height**2)
    return bool(abs(value - round(base**2 + 2 * base * slant)) <= atol)


def _digits(value: Any, atol: float, first: int, second: int) -> bool:
    """The distance of digits, the shorter number filled with zeros."""
    width = max(len(str(first)), len(str(second)))
    pairs = zip(str(first).zfill(width), str(second).zfill(width), strict=True)
    return bool(value == sum(abs(int(a) - int(b)) for a, b in pairs))


def _is_root(value: Any, atol: float, coefficients: Sequence[float]) -> bool:
    terms = (factor * math.pow(value, k) for k, factor in enumerate(coefficients))
    return abs(sum(terms)) <= atol


_MBPP: dict[str, Callable[..., bool]] = {
    "are_equivalent": lambda value, atol, *given: True,
    "sum_div": lambda value, atol, *given: bool(value == 0),
    "surface_Area": _surface,
    "digit_distance_nums": _digits,
}
_HUMANEVAL: dict[str, Callable[..., bool]] = {"find_zero": _is_root}
