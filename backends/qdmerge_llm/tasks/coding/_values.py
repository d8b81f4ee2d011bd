"""Inputs and outputs of functions: from JSON to Python's own types, and compared."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from qdmerge_llm.tasks.coding._program import Other, encode

_RELATIVE = 1e-7


def example_calls(assertions: str, entry: str) -> list[tuple[Any, ...]]:
    """Arguments of a function's calls in assertions, one each; those that are literal only."""
    found = []
    for statement in ast.parse(assertions).body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) == entry:
                with suppress(ValueError, TypeError):
                    found.append(tuple(ast.literal_eval(argument) for argument in node.args))
                break
    return found


def typed(value: Any, examples: Sequence[Any]) -> Any:
    """A JSON value in the types of examples.

    JSON knows no tuples, sets or complex numbers; what a benchmark keeps as a list becomes what its
    assertions give in that place.

    Args:
        value: The value.
        examples: Values seen in its place.
    """
    if isinstance(value, list):
        alike = [e for e in examples if isinstance(e, (list, tuple, set, frozenset))]
        ordered = [list(e) for e in alike if isinstance(e, (list, tuple))]
        if ordered and all(len(e) == len(value) for e in ordered):
            members = [typed(v, [e[k] for e in ordered]) for k, v in enumerate(value)]
        else:
            inside = [member for e in alike for member in e]
            members = [typed(v, inside) for v in value]
        return members if not alike else type(alike[0])(members)
    if isinstance(value, dict):
        mappings = [e for e in examples if isinstance(e, dict)]
        keys = {key for e in mappings for key in e}
        inside = [member for e in mappings for member in e.values()]
        return {_key(key, keys): typed(v, inside) for key, v in value.items()}
    kinds = {type(example) for example in examples}
    if isinstance(value, str) and kinds and kinds <= {int, float, complex}:
        number = complex(value) if complex in kinds else float(value)
        return int(value) if kinds == {int} and value.lstrip("-").isdigit() else number
    return value


def _key(key: str, examples: Collection[Any]) -> Any:
    """A key of a JSON object, a number where examples are."""
    number = key not in examples and any(type(e) is int for e in examples)
    return int(key) if number and re.fullmatch(r"-?\d{1,18}", key) else key


def typed_inputs(
    base: Sequence[Sequence[Any]], plus: Sequence[Sequence[Any]], assertions: str, entry: str
) -> list[Any]:
    """Inputs in the form that values travel in, each a tuple of arguments.

    Args:
        base: Inputs of the assertions, as JSON.
        plus: Further inputs, as JSON.
        assertions: Source of the assertions, whose types the inputs take.
        entry: Name of the function.

    Raises:
        SyntaxError: The assertions are not Python.
    """
    examples = example_calls(assertions, entry)
    rows = list(examples) if len(examples) == len(base) else [_row(r, examples) for r in base]
    return [encode(tuple(row)) for row in [*rows, *(_row(row, examples) for row in plus)]]


def _row(row: Sequence[Any], examples: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(
        typed(value, [example[k] for example in examples if len(example) > k])
        for k, value in enumerate(row)
    )


def as_sets(tests: Sequence[str], entry: str) -> bool:
    """Whether all tests look at the set of what a function returns only."""
    pattern = re.compile(rf"\s*assert\s+set\(\s*{re.escape(entry)}\s*\(")
    return bool(tests) and all(map(pattern.match, tests))


def same_output(value: Any, expected: Any, atol: float = 0.0) -> bool:
    """Whether an output is the reference's, as EvalPlus has it (Liu et al. 2023, NeurIPS).

    Equal as Python sees it; where the reference gives floats, or ``atol`` is not 0, numbers may
    differ by ``atol`` (at least 1e-6 for floats) and 1e-7 of the expected one.
    """
    if isinstance(value, Other) or isinstance(expected, Other):
        return False
    if bool(value == expected):
        return True
    if atol == 0 and not _floats(expected):
        return False
    return _close(value, expected, atol or 1e-6)


def present(value: Any) -> bool:
    """What an output says where only its presence counts: itself if it is a truth value."""
    return value if isinstance(value, bool) else value is not None


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
    if value == expected or (value != value and expected != expected):  # the latter: not a number
        return True
    try:
        difference = abs(value - expected)
        return math.isfinite(difference) and difference <= atol + _RELATIVE * abs(expected)
    except OverflowError:  # an integer beyond all floats
        return False
