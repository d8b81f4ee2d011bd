"""Answers that are executed: many in few sandboxes, each of them once."""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import PositiveInt

from qdmerge.errors import EvaluationError
from qdmerge_llm.items import Item, content_hash
from qdmerge_llm.sandbox import Limits, Sandbox
from qdmerge_llm.tasks._kind import Episode, EpisodeTask, Generate, Seconds, extract
from qdmerge_llm.tasks._runner import LINE, MAX_OUTPUT

_RUNNER = Path(__file__).with_name("_runner.py").read_text(encoding="utf-8")
_SLACK = 3.0  # seconds that the runner may be silent beyond one item's time


@dataclass(frozen=True)
class Program:
    """What runs payloads in the sandbox: ``text``, a standard-library module with ``run`` and
    ``WARM_UP``, or a kind of the runner. ``child`` is False if ``run`` bounds what it executes.
    """

    name: str
    text: str | None = None
    size: int = MAX_OUTPUT
    child: bool = True

    @classmethod
    def of(cls, module: str | None, name: str, **options: Any) -> Program:
        """Return the program of a module's file (its ``__file__``)."""
        return cls(name, Path(module or "").read_text(encoding="utf-8"), **options)


@dataclass(frozen=True)
class Output:
    """What a payload's program did: whether it ``ended`` by itself within its limits, and its exit
    ``status``, or minus the signal that ended it.
    """

    text: str
    ended: bool
    status: int


FAILED = Output("", False, -9)


def run_batch(
    sandbox: Sandbox,
    program: Program,
    payloads: Sequence[Mapping[str, Any]],
    wall: float,
    cpu: int,
) -> list[Output]:
    """Run a program on JSON-able payloads in order, each in ``wall`` seconds, a process in ``cpu``
    seconds of CPU. A payload that brings the runner down fails; a new sandbox takes up the rest.
    """
    outputs: list[Output] = []
    while len(outputs) < len(payloads):
        rest = payloads[len(outputs) :]
        lines, stopped = _run(sandbox, program, rest, wall, cpu)
        outputs += lines
        if len(lines) < len(rest) and not stopped:
            # The payload that ran when the runner fell. It gets no second try: whatever an earlier
            # one left behind is gone after each, so the blame is its own.
            outputs.append(FAILED)
    return outputs


def _run(
    sandbox: Sandbox,
    program: Program,
    payloads: Sequence[Mapping[str, Any]],
    wall: float,
    cpu: int,
) -> tuple[list[Output], bool]:
    """Return the outputs of the first payloads, and whether the runner ended by itself."""
    order = {
        "kind": program.name,
        "program": program.text,
        "child": program.child,
        "wall": wall,
        "cpu": cpu,
        "size": program.size,
        "alone": sandbox.isolated,
        "items": payloads,
    }
    limits = Limits(
        wall=(wall + _SLACK) * (len(payloads) + 1),
        idle=wall + _SLACK,
        cpu=60 + cpu + len(payloads),
        output=LINE * (program.size + sum(p.get("size", program.size) for p in payloads)),
    )
    result = sandbox.run(
        [sandbox.python, "-s", "-S", "runner.py"],
        {"runner.py": _RUNNER},
        json.dumps(order).encode(),
        limits,
    )
    ready, *lines = result.stdout.split(b"\n")
    if ready != b"ready":
        reason = result.stderr.decode(errors="replace").strip() or f"status {result.status}"
        raise EvaluationError(f"the sandbox's Python did not start: {reason}")
    found = [json.loads(line) for line in lines[:-1]]  # the last one is empty or torn
    stopped = bool(found) and found[-1].get("last", False)
    return [Output(line["output"], line["ended"], line["status"]) for line in found], stopped


class Verdict(NamedTuple):
    """The score of an answer, from 0 to 1, and its reason in a line. ``lasting`` is False for what
    was stopped: the machine may have been slow. ``also`` are its further scores, by name.
    """

    score: float
    detail: str
    lasting: bool = True
    also: Mapping[str, float] = MappingProxyType({})


NOTHING = Verdict(0.0, "no code")


class ExecutedTask(EpisodeTask):
    """Episodes of one turn: the answer is executed, and its output compared with what is expected.

    Models of a search often answer alike, so a task remembers the scores of executed answers: a
    score depends on the item (JSON) and the answer alone, and an answer that draws random numbers
    is executed once.

    Args:
        sandbox: Where answers run.
        seconds: Wall time of one answer.
        cpu_seconds: CPU time of one process; reached before ``seconds`` also on a busy machine, so
            scores do not depend on its load.

    Attributes:
        program: What executes payloads.
    """

    chat: ClassVar[bool] = False
    at_once: ClassVar[int] = sys.maxsize
    program: ClassVar[Program]

    def __init__(
        self, sandbox: Sandbox, seconds: Seconds = 10.0, cpu_seconds: PositiveInt = 1
    ) -> None:
        super().__init__(sandbox)
        self._seconds = seconds
        self._cpu_seconds = cpu_seconds
        self._known: dict[str, Verdict] = {}

    @classmethod
    def code(cls, item: Item, answer: str) -> str:
        """Return what is executed of the model's turn; "" for nothing."""
        return extract(answer, cls.stop)

    @classmethod
    def unaskable(cls, item: Item) -> str | None:
        """Return None: a question needs nothing but its prompt."""
        return None

    def ask(self, items: Sequence[Item], generate: Generate) -> None:
        """Ask all questions; answers are not executed."""
        generate([self.prompt(self.start(item)) for item in items])

    def start(self, item: Item) -> Episode:
        """Ask the question."""
        return Episode(item, self.opening(self.question(item)))

    def act(self, episodes: Sequence[Episode]) -> None:
        """Execute the answers and end the episodes."""
        codes = [self.code(episode.item, episode.answer) for episode in episodes]
        verdicts = self._judge([episode.item for episode in episodes], codes)
        for episode, verdict in zip(episodes, verdicts, strict=True):
            episode.end(verdict.score, verdict.detail, verdict.also)

    def score(self, items: Sequence[Item], codes: Sequence[str]) -> np.ndarray:
        """Execute the codes that no earlier call has seen end.

        Args:
            items: The n items.
            codes: What to execute, one per item.

        Returns:
            ``(n,)`` float64: 1 for a right answer, 0 for any other (wrong, failed, too slow).
        """
        return np.array([v.score for v in self._judge(items, codes)], dtype=np.float64)

    def _judge(self, items: Sequence[Item], codes: Sequence[str]) -> list[Verdict]:
        keys = {k: content_hash([items[k], code]) for k, code in enumerate(codes) if code.strip()}
        new = [k for k, key in keys.items() if key not in self._known]
        verdicts = self._execute([items[k] for k in new], [codes[k] for k in new])
        found = {k: self._known[key] for k, key in keys.items() if key in self._known}
        found.update(zip(new, verdicts, strict=True))
        self._known.update((keys[k], found[k]) for k in new if found[k].lasting)
        return [found.get(k, NOTHING) for k in range(len(items))]

    def _execute(self, items: Sequence[Item], codes: Sequence[str]) -> list[Verdict]:
        """Execute codes and judge them."""
        outputs = self._run([self._payload(*pair) for pair in zip(items, codes, strict=True)])
        found = []
        for item, output in zip(items, outputs, strict=True):
            passed = output.ended and self._passed(item, output)
            failed = "wrong output" if output.ended else "it failed, or took too long or too much"
            found.append(Verdict(passed, "passed" if passed else failed, output.status >= 0))
        return found

    def _run(self, payloads: Sequence[Mapping[str, Any]]) -> list[Output]:
        return run_batch(self._sandbox, self.program, payloads, self._seconds, self._cpu_seconds)

    @abstractmethod
    def _payload(self, item: Item, code: str) -> dict[str, Any]:
        """Return what the program needs; never what is expected."""

    @abstractmethod
    def _passed(self, item: Item, output: Output) -> bool:
        """Return whether the output of a code that came to its end is the expected one."""
