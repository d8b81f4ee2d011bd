"""Damage to files: values that do not belong where they are, and bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

DEEP = 5000
ODD = [
    *(
        "null",
        "true",
        "0",
        "-1",
        "1.5",
        "1e400",
        "-0.0",
        "NaN",
        "Infinity",
        "1" + "0" * 400,
        "2147483647",
    ),
    *('""', r'"\ud800"', r'"\u0000"', '"../../x"', '"' + "n" * 5000 + '"', '"%s{0}[("'),
    *(
        "[]",
        "{}",
        "[[1]]",
        "[null]",
        '{"a": 1}',
        "[2147483647, 2147483647, 2147483647]",
        "[-1, NaN]",
    ),
    *("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP),
]
"""JSON that stands in the place of what belongs there."""

LAUGHS = "[" + ", ".join(["&a0 x", *(f"&a{k} [{f'*a{k - 1}, ' * 9}]" for k in range(1, 30))]) + "]"
ODD_YAML = [
    *("2020-01-01", "2020-01-01 10:00:00", "!!binary aGk=", "!!set {a}", "1:30:00", "0x1F", "on"),
    *("&a [*a]", "&a {a: *a}", "*a", "{1: 2}", "{null: 2}", "{[1]: 2}", "{2020-01-01: 1}", "!a b"),
    *("!!python/object/apply:os.getcwd []", "{<<: {a: 1}}", "{<<: 1}", "!!int a", "!!omap [1]"),
    *("!!timestamp a", "!!float a", "!!bool a", "1_000", ".inf", "~", "{? a}", "2020-99-99"),
    LAUGHS,
]
"""YAML that JSON cannot say."""

_HERE = "@@here@@"


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value in JSON-able content."""
    yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*path, key))


def put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return content with another value at a path; None leaves it out."""
    if not path:
        return value
    head, *rest = path
    copied = dict(content) if isinstance(content, dict) else list(content)
    if rest or value is not None:
        copied[head] = put(content[head], tuple(rest), value)
    else:
        del copied[head]
    return copied


@st.composite
def damaged_json(draw: st.DrawFn, content: Any, more: Sequence[str] = ()) -> bytes:
    """Draw JSON text with a value that does not belong there, or without one."""
    path = draw(st.sampled_from(list(places(content))))
    odd = draw(st.sampled_from([*ODD, *more, None]))
    if odd is None:
        return json.dumps(put(content, path, None)).encode()
    return json.dumps(put(content, path, _HERE)).replace(json.dumps(_HERE), odd).encode()


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Draw a file that was cut off, overwritten somewhere, or has something more."""
    at = draw(st.integers(0, len(content)))
    more = draw(st.binary(max_size=8))
    how = draw(st.sampled_from(["cut", "over", "more"]))
    if how == "cut":
        return content[:at]
    return content[:at] + more + content[at + (len(more) if how == "over" else 0) :]
