"""Functions in Python, asked for in a chat: how they are called, and judged by their outputs."""

from __future__ import annotations

import json
import keyword
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt

import qdmerge_llm.tasks.coding._program as _program
from qdmerge.errors import EvaluationError
from qdmerge_llm.items import Item
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks._executed import ExecutedTask, Output, Program, Verdict, run_batch
from qdmerge_llm.tasks._kind import Episode, Seconds, replay
from qdmerge_llm.tasks.coding._evalplus import Oracle
from qdmerge_llm.tasks.coding._program import decode

Tests = Literal["base", "plus"]
Results = list[Any]
"""Per input ``[ok, value, type, seconds]``, the value in the form that it travels in."""

UNREADABLE = (ValueError, TypeError, KeyError, IndexError, RecursionError, MemoryError)
LONGEST = 60
"""Seconds of CPU, at most, of all inputs together."""
_WALL = 600.0  # seconds of a process whose calls take no notice of their limits
LARGEST = 1 << 24
"""Bytes of all outputs of a reference solution."""
_SPARE = 1 << 16  # bytes that an answer's outputs may take beyond twice the reference's


@dataclass(frozen=True)
class Half:
    """The base or plus tests of an item, as its reference solution met them.

    Attributes:
        inputs: In the form that values travel in.
        expected: Outputs and the names of their types; None where a test judges the outputs.
        cpu: Seconds that an answer has for each input.
        total: Seconds for all of them.
        size: Bytes of all outputs.
    """

    inputs: list[Any]
    expected: list[tuple[Any, str]] | None
    cpu: list[int]
    total: int
    size: int


class CodingTask(ExecutedTask):
    """Functions asked for in a chat, which are called in the sandbox on the problem's inputs.

    What is expected never enters the process that an answer runs in: its outputs are compared
    elsewhere. Items may have base tests, those of the original benchmark, and EvalPlus' plus tests.
    An answer that passes both is right; where items have plus tests, results tell pass@1 on the
    base tests alone in a column of its own. As in EvalPlus, an answer must run to its end when it
    is read, and has time for each input; numpy is there where it is installed.

    Args:
        sandbox: Where answers, and the reference solutions, run.
        seconds: Wall time in which an answer must not be idle.
        cpu_seconds: CPU time of one input; four times the reference solution's where that is more.
            Time on the wall does not count, so scores do not depend on the machine's load.
        system: System prompt; None or "" for none.
        tests: The tests that make the score: "plus" are both, "base" those of the original.
    """

    metric: ClassVar[str] = "pass@1"
    chat: ClassVar[bool] = True
    at_once: ClassVar[int] = 256
    leaves_out: ClassVar[bool] = True
    mbpp: ClassVar[bool]
    program: ClassVar[Program] = Program.of(_program.__file__, "coding", size=_SPARE)

    def __init__(
        self,
        sandbox: Sandbox,
        seconds: Seconds = 10.0,
        cpu_seconds: PositiveInt = 1,
        system: str | None = None,
        tests: Tests = "plus",
    ) -> None:
        super().__init__(sandbox, seconds, cpu_seconds)
        self.system = system or ""
        self._tests: Tests = tests
        self._learned: dict[str, dict[str, Half]] = {}  # what references that do not fail give

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """Return what is wrong with the fields of an item, or None."""
        entry = item.get("entry_point")
        if not isinstance(entry, str) or not entry.isidentifier() or keyword.iskeyword(entry):
            return "'entry_point' must be the name of a function"
        if not isinstance(item.get("canonical_solution"), str):
            return "'canonical_solution' must be Python code"
        for field in ("base_input", "plus_input"):
            rows = [] if item.get(field) is None else item[field]
            if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
                return f"'{field}' must be a list of lists of arguments"
        atol = item.get("atol", 0)
        if isinstance(atol, bool) or not isinstance(atol, (int, float)) or not 0 <= atol < math.inf:
            return "'atol' must be a number from 0"
        try:
            cls.inputs(item)
        except (SyntaxError, AttributeError, *UNREADABLE) as error:
            return f"its inputs do not fit its 'assertion' or 'task_id': {error}"
        return None

    def unusable(self, items: Sequence[Item]) -> dict[str, str]:
        """Return the items whose reference does not run, or would not pass as an answer."""
        found = self._learn(items)
        for episode in replay(self, [item for item in items if item["id"] not in found]):
            if episode.score != 1:
                reason = f"its canonical_solution does not pass as an answer: {episode.detail}"
                found[episode.item["id"]] = reason
        return found

    def also(self, items: Sequence[Item]) -> tuple[str, ...]:
        """Return the other tests than those of the score, where items have both."""
        both = any(item.get("plus_input") for item in items)
        return (("base" if self._tests == "plus" else "plus"),) if both else ()

    @classmethod
    @abstractmethod
    def code(cls, item: Item, answer: str) -> str:
        """Return the program in an answer, "" for none."""

    @classmethod
    @abstractmethod
    def reference(cls, item: Item) -> str:
        """Return the reference solution as a program."""

    @classmethod
    @abstractmethod
    def inputs(cls, item: Item) -> dict[str, list[Any]]:
        """Return the inputs of "base" and "plus", those that a row has, as values travel."""

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

    def _references(self, items: Sequence[Item]) -> list[dict[str, Half] | str]:
        """Return what each item's reference solution gives on each half, or why it fails."""
        asked = [(k, half, given) for k, i in enumerate(items) for half, given in _halves(self, i)]
        payloads = [
            self._call(items[k], self.reference(items[k]), _unbounded(given))
            for k, _, given in asked
        ]
        halves: list[dict[str, Half]] = [{} for _ in items]
        failed: dict[int, str] = {}
        for (k, name, given), output in zip(asked, self._run(payloads), strict=True):
            results = _results(output)
            if results is None or len(results) < len(given) or not all(r[0] for r in results):
                at = f" on {name} input {len(results)}" if results else ""
                failed[k] = f"its canonical_solution does not run{at}"
                continue
            cpu = [max(self._cpu_seconds, math.ceil(4 * row[3])) for row in results]
            expected = [(decode(row[1]), row[2]) for row in results]
            total, size = min(LONGEST, sum(cpu)), 2 * len(output.text) + _SPARE
            halves[k][name] = Half(given, expected, cpu, total, size)
        return [failed.get(k, halves[k]) for k in range(len(items))]

    def _execute(self, items: Sequence[Item], codes: Sequence[str]) -> list[Verdict]:
        verdicts: list[dict[str, Verdict]] = [{} for _ in items]
        for half in ("base", "plus"):
            known = [self._learned[_key(item)].get(half) for item in items]
            asked = [
                k
                for k, one in enumerate(known)
                if one and all(verdict.score for verdict in verdicts[k].values())
            ]
            outputs = self._run([self._call(items[k], codes[k], known[k]) for k in asked])
            found = self._judged([items[k] for k in asked], [known[k] for k in asked], outputs)
            for k, verdict in zip(asked, found, strict=True):
                verdicts[k][half] = verdict
        return [self._verdict(found) for found in verdicts]

    def _verdict(self, found: Mapping[str, Verdict]) -> Verdict:
        """Return the verdict of an answer from those of its halves; the plus tests count where it
        passed the base tests.
        """
        last = list(found.values())[-1]
        base = found.get("base", last)
        chosen, other = (last, base) if self._tests == "plus" else (base, last)
        name = "base" if self._tests == "plus" else "plus"
        lasting = last.lasting and base.lasting
        return Verdict(chosen.score, chosen.detail, lasting, {name: other.score})

    def _call(self, item: Item, code: str, half: Half | None) -> dict[str, Any]:
        assert half is not None
        return {
            "do": "call",
            "code": code,
            "entry": item["entry_point"],
            "inputs": half.inputs,
            "cpu": half.cpu,
            "total": half.total,
            "idle": self._seconds,
            "size": half.size,
            "packages": self._sandbox.packages,
        }

    def _run(self, payloads: Sequence[Mapping[str, Any]]) -> list[Output]:
        return run_batch(self._sandbox, self.program, payloads, _WALL, LONGEST + 3)

    def _judged(
        self, items: Sequence[Item], halves: Sequence[Half | None], outputs: Sequence[Output]
    ) -> list[Verdict]:
        """Judge outputs of the calls of one half, those that a test judges in one batch."""
        found: list[Verdict] = []
        tested: dict[int, tuple[Item, Half, Results]] = {}
        for k, (item, half, output) in enumerate(zip(items, halves, outputs, strict=True)):
            assert half is not None
            results = _results(output)
            if results is None:
                reason = "the code took too long or too much"
                reason = reason if not output.ended else "the code does not run"
                found.append(Verdict(0.0, reason, output.status >= 0))
            elif len(results) != len(half.inputs) or not all(r[0] is True for r in results):
                failed = f"the function fails, or takes too long, on input {len(results)}"
                found.append(Verdict(0.0, f"{failed} of {len(half.inputs)}"))
            else:
                found.append(self._compared(item, half, results))
                if half.expected is None:
                    tested[k] = item, half, results
        for k, verdict in zip(tested, self._tested(list(tested.values())), strict=True):
            found[k] = verdict
        return found

    def _compared(self, item: Item, half: Half, results: Results) -> Verdict:
        oracle = Oracle(
            item["entry_point"], self.mbpp, float(item.get("atol", 0)), self.as_sets(item)
        )
        for k, (given, row, (expected, kind)) in enumerate(
            zip(half.inputs, results, half.expected or [], strict=False), start=1
        ):
            try:
                right = oracle.right(decode(given), decode(row[1]), expected, row[2] == kind)
            except UNREADABLE:
                right = False
            if not right:
                return Verdict(0.0, f"wrong output on input {k} of {len(results)}")
        return Verdict(1.0, "passed")

    @classmethod
    def as_sets(cls, item: Item) -> bool:
        """Return whether the tests of an item compare sets."""
        return False

    def _tested(self, ran: Sequence[tuple[Item, Half, Results]]) -> list[Verdict]:
        """Judge items by their own test code, given what the functions returned."""
        return []

    def _payload(self, item: Item, code: str) -> dict[str, Any]:
        raise NotImplementedError("an answer is called on base and plus inputs")

    def _passed(self, item: Item, output: Output) -> bool:
        raise NotImplementedError("outputs are compared in batches")


def _halves(kind: CodingTask, item: Item) -> list[tuple[str, list[Any]]]:
    return list(kind.inputs(item).items())


def _unbounded(given: list[Any]) -> Half:
    return Half(given, None, [LONGEST] * len(given), LONGEST, LARGEST)


def _results(output: Output) -> Results | None:
    """Return what a function returned, or None where the program came to no proper end."""
    if not output.ended or output.status != 0:
        return None
    try:
        return [[ok, value, kind, float(s)] for ok, value, kind, s in json.loads(output.text)]
    except UNREADABLE:
        return None


def _key(item: Item) -> str:
    parts = ("entry_point", "canonical_solution", "prompt", "test")  # the latter: HumanEval
    inputs = ("base_input", "plus_input", "assertion", "task_id")  # MBPP; their types
    return json.dumps([item.get(part) for part in (*parts, *inputs)])
