"""SQL queries on SQLite against a reference query."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import qdmerge_llm.tasks.database._program as _program
from qdmerge_llm.items import Item
from qdmerge_llm.tasks._executed import ExecutedTask, Output, Program
from qdmerge_llm.tasks._values import same_rows

_reference_rows = lru_cache(maxsize=65536)(_program.select)


class SqlTask(ExecutedTask):
    """The answer is one SELECT; it passes if its rows are those of the reference.

    Item fields: ``setup``, statements that build the database; ``reference``, the query that
    answers the prompt; ``ordered``, whether the order of rows counts (default false). The answer
    and the reference run each on an in-memory database of its own. Reading is all an answer may do,
    within bounds on steps, rows and size: its score does not depend on the machine's speed.
    """

    stop: ClassVar[tuple[str, ...]] = (";",)
    program: ClassVar[Program] = Program.of(_program.__file__, "sql", child=False)

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """Return what is wrong with the fields of an item, or None."""
        for field in ("setup", "reference"):
            if not isinstance(item.get(field), str):
                return f"'{field}' must be SQL text"
        if not isinstance(item.get("ordered", False), bool):
            return "'ordered' must be true or false"
        return None

    def unusable(self, items: Sequence[Item]) -> Mapping[str, str]:
        """Return the items whose reference query fails."""
        found = {}
        for item in items:
            try:
                _reference_rows(item["setup"], item["reference"])
            except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                found[item["id"]] = f"the reference query does not run: {error}"
        return found

    def _payload(self, item: Item, code: str) -> dict[str, Any]:
        return {"setup": item["setup"], "query": code}

    def _passed(self, item: Item, output: Output) -> bool:
        expected = json.loads(_reference_rows(item["setup"], item["reference"]))
        try:
            rows = json.loads(output.text)
        except (ValueError, RecursionError):
            return False
        return same_rows(rows, expected, item.get("ordered", False))
