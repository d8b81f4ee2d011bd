"""Shell commands against their expected output."""

from __future__ import annotations

from typing import Any, ClassVar

from qdmerge_llm.tasks._base import ExecutedTask, Item
from qdmerge_llm.tasks._batch import Output


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


class ShellTask(ExecutedTask):
    """The answer is a shell command; it passes if its standard output is the expected one.

    Item fields: ``files``, relative path to content, what the command finds in its working
    directory; ``expected``, its standard output. Space at the ends of lines and of the output does
    not count.
    """

    runner: ClassVar[str] = "shell"

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """What is wrong with the fields of an item, or None."""
        files = item.get("files")
        if not isinstance(files, dict) or not all(isinstance(v, str) for v in files.values()):
            return "'files' must map names to text"
        for name in files:
            if name.startswith("/") or ".." in name.split("/"):
                return f"file '{name}' must lie inside the working directory"
        if not isinstance(item.get("expected"), str):
            return "'expected' must be text"
        return None

    def _payload(self, item: Item, answer: str) -> dict[str, Any]:
        return {"files": item["files"], "command": answer}

    def _passed(self, item: Item, output: Output) -> bool:
        return _lines(output.text) == _lines(item["expected"])
