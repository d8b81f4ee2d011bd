"""Functions in Python against unit tests, and shell commands against their output."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from qdmerge_llm.items import Item
from qdmerge_llm.tasks._executed import ExecutedTask, Output, Program
from qdmerge_llm.tasks._values import same


class PythonTask(ExecutedTask):
    """The answer defines the function ``entry``; it passes if every test returns what is expected.

    Item fields: ``entry``, name of the function; ``tests``, list of ``{"args": [...], "expected":
    value}``. Values are compared as JSON (a tuple equals a list), floats within 1e-6.
    """

    metric: ClassVar[str] = "pass@1"
    program: ClassVar[Program] = Program("python")

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """Return what is wrong with the fields of an item, or None."""
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

    def _payload(self, item: Item, code: str) -> dict[str, Any]:
        arguments = [test["args"] for test in item["tests"]]
        return {"code": code, "entry": item["entry"], "args": arguments}

    def _passed(self, item: Item, output: Output) -> bool:
        try:
            results = json.loads(output.text)
            pairs = list(zip(results, item["tests"], strict=True))
            return all(ok is True and same(value, test["expected"]) for (ok, value), test in pairs)
        except (ValueError, TypeError, RecursionError):
            return False


class ShellTask(ExecutedTask):
    """The answer is a shell command; it passes if its standard output is the expected one.

    Item fields: ``files``, relative path to content, what the command finds in its working
    directory; ``expected``, its standard output. Space at the ends of lines and of the output does
    not count.
    """

    program: ClassVar[Program] = Program("shell")

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """Return what is wrong with the fields of an item, or None."""
        files = item.get("files")
        if not isinstance(files, dict) or not all(isinstance(v, str) for v in files.values()):
            return "'files' must map names to text"
        for name in files:
            if name.startswith("/") or ".." in name.split("/"):
                return f"file '{name}' must lie inside the working directory"
        if not isinstance(item.get("expected"), str):
            return "'expected' must be text"
        return None

    def _payload(self, item: Item, code: str) -> dict[str, Any]:
        return {"files": item["files"], "command": code}

    def _passed(self, item: Item, output: Output) -> bool:
        return _lines(output.text) == _lines(item["expected"])


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]
