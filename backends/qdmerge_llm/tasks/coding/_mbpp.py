"""MBPP and MBPP+ in the rows of EvalPlus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from qdmerge_llm.items import Item
from qdmerge_llm.tasks.coding._evalplus import arguments, task_number
from qdmerge_llm.tasks.coding._program import encode
from qdmerge_llm.tasks.coding._reading import as_sets, extract_code, typed_inputs
from qdmerge_llm.tasks.coding._task import CodingTask


class MBPPTask(CodingTask):
    """MBPP and MBPP+ in the rows of EvalPlus (Liu et al. 2023, NeurIPS); pass@1.

    A row has ``prompt`` (the description), ``entry_point``, ``canonical_solution``, ``base_input``,
    and maybe ``plus_input`` and ``atol``; ``assertion`` and ``test_list`` hold the original tests.
    An answer passes if its outputs on all inputs are those of the reference solution, which runs in
    the sandbox once. Inputs, and the comparison of outputs (as sets, by whether there is one, by an
    oracle), are those of EvalPlus for its tasks: rows with a ``task_id`` such as ``Mbpp/2``, or a
    number and a ``contract``. Inputs of other rows take types that JSON lacks from the assertions.
    """

    mbpp: ClassVar[bool] = True

    @classmethod
    def read(cls, row: Mapping[str, Any], number: int) -> Item:
        """Return the row; ``id`` is its ``task_id``, ``prompt`` the description and first test."""
        description = row["prompt"].strip().strip("'\"").split("\nassert ")[0].strip()
        tests = row.get("test_list") or [
            line for line in row.get("assertion", "").split("\n") if line.startswith("assert")
        ]
        prompt = f"{description}\nThe function is named `{row['entry_point']}`."
        if tests:
            prompt += f" It should pass this test:\n{tests[0].strip()}"
        return {**row, "id": str(row.get("task_id", number)), "prompt": prompt}

    @classmethod
    def bare_question(cls, item: Item) -> str:
        """Return the description, without the function's name and the test."""
        return str(item["prompt"]).split("\nThe function is named `")[0].split("\nassert ")[0]

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """Return what is wrong with the fields of a row, or None."""
        if not item.get("base_input") and not item.get("plus_input"):
            return "'base_input' must have at least one input"
        return super().problem(item)

    @classmethod
    def question(cls, item: Item) -> str:
        """Return what the model is asked."""
        return (
            "Write a Python function for the following problem. Answer with one block of code "
            f"between ```python and ```, complete with its imports.\n\n{item['prompt']}"
        )

    @classmethod
    def code(cls, item: Item, answer: str) -> str:
        """Return the program in an answer."""
        return extract_code(answer, item["entry_point"])

    @classmethod
    def gold(cls, item: Item) -> list[str]:
        """Return the reference solution."""
        return [f"```python\n{item['canonical_solution'].strip()}\n```"]

    @classmethod
    def reference(cls, item: Item) -> str:
        """Return the reference solution."""
        return str(item["canonical_solution"])

    @classmethod
    def inputs(cls, item: Item) -> dict[str, list[Any]]:
        """Return the inputs of "base" and "plus": as EvalPlus makes them of its rows, else in the
        types that the assertions show.
        """
        halves = {half: item.get(f"{half}_input") or [] for half in ("base", "plus")}
        number = task_number(item)
        if number is None:
            asserted = item.get("assertion", ""), item["entry_point"]
            rows = typed_inputs(halves["base"], halves["plus"], *asserted)
            split = len(rows) - len(halves["plus"])
            found = {"base": rows[:split], "plus": rows[split:]}
        else:
            found = {
                half: [encode(arguments(number, row)) for row in rows]
                for half, rows in halves.items()
            }
        return {half: rows for half, rows in found.items() if rows}

    @classmethod
    def as_sets(cls, item: Item) -> bool:
        """Return whether the original tests compare sets."""
        return as_sets(item.get("test_list") or [], item["entry_point"])
