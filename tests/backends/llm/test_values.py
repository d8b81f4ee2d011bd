"""The comparisons of values, on the edges of each."""

from __future__ import annotations

import math
from typing import Any

import pytest

from qdmerge_llm.tasks._values import close, same, same_output, same_rows
from qdmerge_llm.tasks.database import same_answer

INF, NAN = math.inf, math.nan
NEAR = 1 + 1e-9
EDGES: list[tuple[Any, Any, bool, bool]] = [  # value, expected, and whether same, same_output
    (INF, INF, True, True),
    (INF, -INF, False, False),
    (INF, 1.0, False, False),
    (1.0, INF, False, False),
    (0, INF, False, False),
    (1e308, INF, False, False),
    (NAN, NAN, False, True),
    (NAN, 1.0, False, False),
    (1.0, NAN, False, False),
    (NAN, INF, False, False),
    (-0.0, 0.0, True, True),
    (0, -0.0, True, True),
    (5e-324, 0.0, True, True),
    (10**400, 1.0, False, False),
    (1.0, 10**400, False, False),
    (10**400, INF, False, False),
    (10**400, 10**400, True, True),
    (10**400 + 1, 10**400, False, False),
    (2**70 + 1, 2**70, False, False),
    (True, 1, True, True),
    (False, 0.0, True, True),
    (True, 2.0, False, False),
    (1, NEAR, True, False),
    (NEAR, 1, True, False),
    (NEAR, 1.0, True, True),
    (1.001, 1.0, False, False),
    ("1", 1, False, False),
    ("1", 1.0, False, False),
    ("", None, False, False),
    (None, 0, False, False),
    (None, 0.0, False, False),
    (None, None, True, True),
    ([], [], True, True),
    ([INF], [1.0], False, False),
    ([1.0], [INF], False, False),
    ([math.nan], [float("nan")], False, True),
    ([[NEAR]], [[1.0]], True, False),
    ([NEAR], [1.0], True, True),
    ([1.0], [1.0, 2.0], False, False),
    ([1, NEAR], [1, 1.0], True, False),
    ({"a": INF}, {"a": 1.0}, False, False),
    ({"a": NEAR}, {"a": 1.0}, True, False),
    ({"a": 1}, {"b": 1}, False, False),
]


@pytest.mark.parametrize(("value", "expected", "json", "python"), EDGES)
def test_edges(value: Any, expected: Any, json: bool, python: bool) -> None:
    assert same(value, expected) == json
    assert same_output(value, expected) == python
    assert same_rows([[value]], [[expected]], ordered=True) == json
    if "nan" not in repr(expected):  # which no database gives
        assert same_rows([[value], [7]], [[7], [expected]], ordered=False) == json


@pytest.mark.parametrize("tolerance", [0.0, 1e-6, 1e9])
def test_no_tolerance_reaches_what_is_not_near(tolerance: float) -> None:
    for value, expected in [(INF, 1.0), (1.0, INF), (INF, -INF), (NAN, 1.0), (1.0, NAN)]:
        assert not close(value, expected, tolerance, tolerance)
        assert not same_output([value], [expected], tolerance)
    for text in ("1", b"1", None, {1}, {"a": 1}):
        assert not close(text, text, tolerance)


@pytest.mark.parametrize(
    ("said", "label", "right"),
    [
        ("inf", "inf", True),
        ("inf", "1", False),
        ("1", "inf", False),
        ("1e999", "inf", False),
        ("nan", "nan", True),
        ("nan", "1", False),
        ("-0.0", "0", True),
        ("9" * 400, "inf", False),
        ("true", "1", False),
        ("1.0", "1", True),
    ],
)
def test_edges_of_answers(said: str, label: str, right: bool) -> None:
    assert same_answer([said], [label]) == right


@pytest.mark.parametrize(
    ("value", "expected", "atol", "same"),
    [
        (1, True, 0, True),
        ((1, 2), [1, 2], 0, False),
        ([0.1 + 0.2], [0.3], 0, True),
        ([1, 0.1 + 0.2], [1, 0.3], 0, False),
        ([1, 0.1 + 0.2], [1, 0.3], 1e-4, True),
        (float("nan"), float("nan"), 0, True),
        (float("inf"), 1.0, 1, False),
        (10**400, 1.0, 1e-4, False),
        (1, 1.00000001, 0, False),
        (1, 1.0, 0, True),
        (2**70 + 1, 2**70, 1, False),
        ([[1.0], [1.0, 2.0]], [[1.0], [1.0, 2.00000001]], 1, False),
        ("a", 1.0, 1e-4, False),
        ([1.0], [1.0, 2.0], 1e-4, False),
        (None, 0.0, 1e-4, False),
        (1 + 1e-9j, 1 + 0j, 1e-4, True),
    ],
)
def test_comparison_of_outputs(value: Any, expected: Any, atol: float, same: bool) -> None:
    assert same_output(value, expected, atol) == same
