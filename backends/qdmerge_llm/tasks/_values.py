"""Whether an answer's values are the expected ones: JSON values, rows, and Python's own values."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

_TOLERANCE = 1e-6


def close(value: Any, expected: Any, absolute: float, relative: float = 0.0) -> bool:
    """Return whether numbers, or lists of numbers of one shape, differ by no more than is allowed.

    The one comparison of numbers that need not be equal. An infinity is close to itself alone, NaN
    to NaN; an integer beyond 64 bits, or what is no number, to nothing.

    Args:
        value: What is judged.
        expected: What it should be.
        absolute: Allowed difference, to which is added
        relative: times the size of what is expected.
    """
    if not (_numbers(value) and _numbers(expected)):
        return False
    try:
        found, right = np.asarray(value), np.asarray(expected)
        return found.shape == right.shape and bool(
            np.allclose(found, right, rtol=relative, atol=absolute, equal_nan=True)
        )
    except (TypeError, ValueError, OverflowError):  # integers beyond 64 bits, lists of no one shape
        return False


def _numbers(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_numbers, value))
    return isinstance(value, (int, float, complex))


def same(value: Any, expected: Any) -> bool:
    """Return whether JSON values are equal as Python sees it, floats within 1e-6, NaN to none."""
    if isinstance(value, float) or isinstance(expected, float):
        numbers = isinstance(value, (int, float)) and isinstance(expected, (int, float))
        near = expected == expected and close(value, expected, _TOLERANCE, _TOLERANCE)
        return numbers and (value == expected or near)
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


def same_output(value: Any, expected: Any, atol: float = 0.0, alike: bool = True) -> bool:
    """Compare as EvalPlus does (Liu et al. 2023, NeurIPS): equal in Python, or, for floats or
    ``atol``, of one type and within ``atol`` (at least 1e-6 for floats) and 1e-7 of the expected.

    Args:
        value: The output.
        expected: That of the reference solution.
        atol: Allowed difference.
        alike: Whether both were of one type where they were made.
    """
    if bool(value == expected):
        return True
    atol = atol or (_TOLERANCE if are_floats(expected) else 0.0)
    alike = alike and type(value) is type(expected)
    return bool(atol) and alike and close(value, expected, atol, 1e-7)


def are_floats(value: Any) -> bool:
    """Return whether a value is a float, or a list or tuple of floats only."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(member, float) for member in value)
    return isinstance(value, float)
