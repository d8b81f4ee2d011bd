"""Functions in Python against unit tests."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from qdmerge_llm.tasks._base import ExecutedTask, Item, same
from qdmerge_llm.tasks._batch import Output


class PythonTask(ExecutedTask):
    """The answer defines the function ``entry``; it passes if every test returns what is expected.

    Item fields: ``entry``, name of the function; ``tests``, list of ``{"args": [...], "expected":
    value}``. Values are compared as JSON (a tuple equals a list), floats within 1e-6.
    """

    metric: ClassVar[str] = "pass@1"
    runner: ClassVar[str] = "python"

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """What is wrong with the fields of an item, or None."""
        if not isinstance(item.get("entry"), str):
            return "'entry' must be the name of a function"
        tests = item.get("tests")
        if not isinstance(tests, list) or not tests:
            return "'tests' must be a list of at least one test"
        for test in tests:
            if not isinstance(test, dict) or "expected" not in test:
                return "each test needs 'args' and 'expected'"
            if not isinstance(test.get("args"), list):
                return "'args' of a test must be a list"
        return None

    def _payload(self, item: Item, answer: str) -> dict[str, Any]:
        return {
            "code": answer,
            "entry": item["entry"],
            "args": [test["args"] for test in item["tests"]],
        }

    def _passed(self, item: Item, output: Output) -> bool:
        try:
            results = json.loads(output.text)
            pairs = list(zip(results, item["tests"], strict=True))
            return all(ok is True and same(value, test["expected"]) for (ok, value), test in pairs)
        except (ValueError, TypeError, RecursionError):
            return False
