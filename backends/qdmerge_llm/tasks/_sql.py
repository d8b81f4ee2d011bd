"""SQL queries on SQLite against a reference query."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from qdmerge_llm.tasks import _runner
from qdmerge_llm.tasks._base import ExecutedTask, Item, same
from qdmerge_llm.tasks._batch import Output


@lru_cache(maxsize=65536)
def _reference_rows(setup: str, reference: str) -> str:
    return _runner.sql({"setup": setup, "query": reference})


def _without(rows: list[Any], others: list[Any]) -> list[Any]:
    """The rows that have no equal among the others, each of which counts once."""
    counts = Counter(map(repr, others))
    left = []
    for row in rows:
        if counts[repr(row)] > 0:
            counts[repr(row)] -= 1
        else:
            left.append(row)
    return left


def same_rows(rows: list[Any], expected: list[Any], ordered: bool) -> bool:
    """Whether two results agree: in order, or as multisets; floats within 1e-6, names ignored."""
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


class SqlTask(ExecutedTask):
    """The answer is one SELECT; it passes if its rows are those of the reference.

    Item fields: ``setup``, statements that build the database; ``reference``, the query that
    answers the prompt; ``ordered``, whether the order of rows counts (default false). The answer
    and the reference run each on an in-memory database of its own. Reading is all an answer may do,
    within bounds on steps, rows and size: its score does not depend on the machine's speed.
    """

    runner: ClassVar[str] = "sql"
    stop: ClassVar[tuple[str, ...]] = (";",)

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """What is wrong with the fields of an item, or None."""
        for field in ("setup", "reference"):
            if not isinstance(item.get(field), str):
                return f"'{field}' must be SQL text"
        if not isinstance(item.get("ordered", False), bool):
            return "'ordered' must be true or false"
        return None

    def unusable(self, items: Sequence[Item]) -> Mapping[str, str]:
        """The items whose reference query fails."""
        found = {}
        for item in items:
            try:
                _reference_rows(item["setup"], item["reference"])
            except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                found[item["id"]] = f"the reference query does not run: {error}"
        return found

    def _payload(self, item: Item, answer: str) -> dict[str, Any]:
        return {"setup": item["setup"], "query": answer}

    def _passed(self, item: Item, output: Output) -> bool:
        expected = json.loads(_reference_rows(item["setup"], item["reference"]))
        try:
            rows = json.loads(output.text)
        except ValueError:
            return False
        return same_rows(rows, expected, item.get("ordered", False))
