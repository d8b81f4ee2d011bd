"""Whether an answer's values are the expected ones: JSON values, rows, and Python's own values."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

_JSON_TOLERANCE = 1e-6
_RELATIVE = 1e-7


def same(value: Any, expected: Any) -> bool:
    """Return whether JSON values are equal as Python sees it, floats within 1e-6."""
    if isinstance(value, float) or isinstance(expected, float):
        numbers = isinstance(value, (int, float)) and isinstance(expected, (int, float))
        return numbers and _near(value, expected, lambda size: _JSON_TOLERANCE * max(1.0, size))
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(
            same(value[key], expected[key]) for key in value
        )
    return bool(value == expected)


def same_rows(rows: list[Any], expected: list[Any], ordered: bool) -> bool:
    """Return whether rows are :func:`same`: in order, or as multisets."""
    if len(rows) != len(expected):
        return False
    if ordered:
        return same(rows, expected)
    # Equal rows first: only those that differ in rounding need to be searched for.
    left = _without(expected, rows)
    for row in _without(rows, expected):
        match = next((k for k, other in enumerate(left) if same(row, other)), None)
        if match is None:
            return False
        del left[match]
    return True


def _without(rows: list[Any], others: list[Any]) -> list[Any]:
    """Return the rows that have no equal among the others, each of which counts once."""
    counts = Counter(map(repr, others))
    left = []
    for row in rows:
        if counts[repr(row)] > 0:
            counts[repr(row)] -= 1
        else:
            left.append(row)
    return left


def same_output(value: Any, expected: Any, atol: float = 0.0) -> bool:
    """Compare as EvalPlus does (Liu et al. 2023, NeurIPS): equal in Python, or, for floats or
    ``atol``, numbers within ``atol`` (at least 1e-6 for floats) and 1e-7 of the expected one.
    """
    if bool(value == expected):
        return True
    if atol == 0 and not _floats(expected):
        return False
    return _close(value, expected, atol or 1e-6)


def _floats(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(member, float) for member in value)
    return isinstance(value, float)


def _close(value: Any, expected: Any, atol: float) -> bool:
    if isinstance(value, (list, tuple)) and isinstance(expected, (list, tuple)):
        return len(value) == len(expected) and all(
            _close(v, e, atol) for v, e in zip(value, expected, strict=True)
        )
    numbers = (int, float, complex)
    if not (isinstance(value, numbers) and isinstance(expected, numbers)):
        return False
    both_nan = value != value and expected != expected
    return both_nan or _near(value, expected, lambda size: atol + _RELATIVE * size)


def _near(value: complex, expected: complex, allowed: Callable[[float], float]) -> bool:
    """Return whether two numbers differ by no more than is allowed for the expected one's size."""
    if value == expected:
        return True
    try:
        difference = abs(value - expected)
        return math.isfinite(difference) and difference <= allowed(abs(expected))
    except OverflowError:  # an integer beyond all floats
        return False
