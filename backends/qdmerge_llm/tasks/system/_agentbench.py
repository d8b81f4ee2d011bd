"""AgentBench's operating system problems."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveInt

from qdmerge.errors import EvaluationError
from qdmerge_llm.items import Item
from qdmerge_llm.sandbox import Limits, Result, Sandbox, Session
from qdmerge_llm.tasks._kind import Episode, EpisodeTask, Generate, Seconds
from qdmerge_llm.tasks.system._problems import (
    COMPARISONS,
    Problem,
    Script,
    calculator,
    normal,
    understand,
)
from qdmerge_llm.tasks.system._protocol import EMPTY, OUTPUT, SYSTEM, parse, report

_SETUP_SECONDS = 30.0
_Setup = tuple[bool, Limits, tuple[Script, ...], str | None]
"""Whether there are users beside root, limits, and what prepares a system."""
_working: set[_Setup] = set()
"""The set-ups that did not fail in this process; what others failed of may pass."""
_CALC = """cat > /usr/local/bin/calc <<'EOF'
#!/usr/bin/env python3
import sys
print(eval(" ".join(sys.argv[1:])))
EOF
chmod +x /usr/local/bin/calc"""


class AgentBenchOSTask(EpisodeTask):
    """The model uses a shell, as root on a throw-away system, and answers or finishes.

    Rows are those of AgentBench (Liu et al. 2023, https://arxiv.org/abs/2308.03688): the
    request (``description``), what prepares the system (``create.init``, ``start``), and
    ``evaluation``: the answer (``match``) or checkers (``check``) with the command that finds
    it (``example``). Every episode has a session of its own.

    Args:
        sandbox: Where commands run.
        system: System prompt; None for the one of this kind.
        rounds: Turns the model has; None for 5.
        seconds: Wall time of one command.
        cpu_seconds: CPU time of one process.
        output_chars: Length at which outputs are cut for the model, with a note.
    """

    default_system: ClassVar[str] = SYSTEM
    default_rounds: ClassVar[int] = 5
    at_once: ClassVar[int] = 64

    def __init__(
        self,
        sandbox: Sandbox,
        system: str | None = None,
        rounds: PositiveInt | None = None,
        seconds: Seconds = 10.0,
        cpu_seconds: PositiveInt = 5,
        output_chars: Annotated[int, Field(ge=100)] = 800,
    ) -> None:
        super().__init__(sandbox, system, rounds)
        # A session ends with the thread that opened it, so these live as long as the task.
        self._pool = ThreadPoolExecutor(2 * (os.cpu_count() or 1))
        self._limits = Limits(wall=seconds, cpu=cpu_seconds, output=1 << 20)
        self._output_chars = output_chars

    @classmethod
    def read(cls, row: Mapping[str, Any], number: int) -> Item:
        """Return the row with ``prompt``, ``id`` (of its content) and ``group``."""
        text = json.dumps(row, sort_keys=True)
        description = row["description"]
        digests = [hashlib.sha256(part.encode()).hexdigest()[:16] for part in (text, description)]
        return {"id": digests[0], "group": digests[1], "prompt": description, **row}

    @classmethod
    def problem(cls, item: Item) -> str | None:
        """Return what is wrong with the fields of an item, or None."""
        try:
            understand(item, item["id"])
        except ValueError as error:
            return str(error)
        return None

    @classmethod
    def unaskable(cls, item: Item) -> str | None:
        """Return what is wrong with what prepares an item's system, or None."""
        return cls.problem(_unlabeled(item))

    def ask(self, items: Sequence[Item], generate: Generate) -> None:
        """Play all episodes; what they come to is not looked at."""
        self.play([_unlabeled(item) for item in items], generate)

    def unusable(self, items: Sequence[Item]) -> dict[str, str]:
        """Return the items whose system cannot be set up; what works is tried once in a process."""
        if not self._sandbox.isolated:
            return {}
        setups = {}
        for item in items:
            problem = understand(item, item["id"])
            if problem.init or problem.start is not None:
                users = self._sandbox.users
                setups[item["id"]] = (users, self._limits, problem.init, problem.start)
        new = [setup for setup in dict.fromkeys(setups.values()) if setup not in _working]
        found = dict(zip(new, self._pool.map(self._try, new), strict=True))
        _working.update(setup for setup, reason in found.items() if not reason)
        return {name: found[setup] for name, setup in setups.items() if found.get(setup)}

    def _try(self, setup: _Setup) -> str:
        with self._sandbox.session(self._limits) as session:
            return self._set_up(session, *setup[2:])

    @classmethod
    def gold(cls, item: Item) -> list[str]:
        """Return a perfect model's turns: the example, then its output (``{output}``)."""
        problem = understand(item, item["id"])
        if problem.match is not None:
            known = f"Think: I know the answer.\n\nAct: answer({problem.match.text})"
            return [] if problem.match.regex else [known]
        if problem.checks == ("0",):
            return [_bash(_CALC), "Think: It is done.\n\nAct: finish"]
        if problem.example is None or problem.example.interpreter != "bash":
            return []
        return [_bash(problem.example.code), "Think: That is it.\n\nAct: answer({output})"]

    @classmethod
    def output_of(cls, turn: str) -> str:
        """Return the output that a user turn reports, without what is said around it."""
        return "" if turn == EMPTY else turn.removeprefix(OUTPUT).strip()

    def begin(self, items: Sequence[Item], opened: list[Episode]) -> None:
        """Open the items' sessions, several at a time.

        Raises:
            EvaluationError: See :meth:`start`.
        """
        started = [self._pool.submit(self.start, item) for item in items]
        try:
            wait(started)
        finally:
            for one in started:
                one.cancel()
            done = [one for one in started if not one.cancelled() and one.exception() is None]
            opened.extend(one.result() for one in done)
        for one in started:
            one.result()

    def start(self, item: Item) -> Episode:
        """Return a session with the item's system.

        Raises:
            EvaluationError: The sandbox does not start, or the item's own set-up fails in it.
        """
        problem = understand(item, item["id"])
        session = self._sandbox.session(self._limits)
        try:
            if reason := self._set_up(session, problem.init, problem.start):
                raise EvaluationError(f"item {item['id']}: {reason}")
        except BaseException:
            session.close()
            raise
        return Episode(item, self.opening(item["prompt"]), (problem, session))

    def _set_up(self, session: Session, init: Sequence[Script], start: str | None) -> str:
        """Prepare a system; return why that fails, or ""."""
        for script in init:
            if reason := self._failure("init", _run(session, script, wall=_SETUP_SECONDS)):
                return reason
        return "" if start is None else self._failure("start", session.bash(start, _SETUP_SECONDS))

    def _failure(self, name: str, result: Result) -> str:
        if not (result.status or result.timed_out or result.exceeded):
            return ""
        said = result.stderr or result.stdout  # those of a shell are one
        lines = said.decode(errors="replace").strip().splitlines()
        slow = f"it takes more than {_SETUP_SECONDS:g} seconds" if result.timed_out else None
        why = slow or (lines[-1] if lines else result.exceeded or f"status {result.status}")
        text = f"its {name} failed ({why})"
        if not self._sandbox.users:
            text += (
                "; in this sandbox root is the only user (bubblewrap runs in a user namespace), so "
                "su and chown to others fail: run as root, or leave out items that need them"
            )
        return text

    def act(self, episodes: Sequence[Episode]) -> None:
        """Run the scripts of all episodes, several at a time, and judges those that finish."""
        list(self._pool.map(self._act, episodes))

    def _act(self, episode: Episode) -> None:
        problem, session = episode.state
        action = parse(episode.answer)
        if action is None:
            episode.end(0.0, "no action")
        elif action.kind == "finish":
            self._judge(episode, problem, session, action.text)
        else:
            result = session.bash(action.text or "")
            if result.exceeded:
                episode.end(0.0, result.exceeded)
                return
            text = normal(result.stdout.decode("utf-8", "replace"))
            slow = self._limits.wall if result.timed_out else None
            episode.tell(report(text, self._output_chars, slow))

    def _judge(
        self, episode: Episode, problem: Problem, session: Session, answer: str | None
    ) -> None:
        if problem.match is not None:
            right = answer is not None and problem.match.accepts(answer)
        else:
            right = _passes(problem, session, "" if answer is None else answer)
        episode.end(float(right), "" if right else session.over or "wrong answer")

    def close(self, episode: Episode) -> None:
        """End the session."""
        episode.state[1].close()


def _unlabeled(item: Item) -> Item:
    """Return a row as a question whose answer is of no interest."""
    return {**item, "evaluation": {"match": ""}}


def _bash(code: str) -> str:
    return f"Think: This finds out or does what is asked.\n\nAct: bash\n\n```bash\n{code}\n```"


def _run(session: Session, script: Script, *args: str, wall: float | None = None) -> Result:
    zero = ["--"] if script.interpreter == "bash" else []
    return session.run([script.interpreter, "-c", script.code, *zero, *args], wall)


def _passes(problem: Problem, session: Session, answer: str) -> bool:
    """Run the checkers in order, each with the answer and the outputs of those before it."""
    outputs = [answer]
    for check in problem.checks:
        if isinstance(check, str):
            expected = outputs[1] if len(outputs) > 1 else ""
            right = COMPARISONS[check](answer, expected) if check != "0" else calculator(session)
            if not right:
                return False
            outputs.append("")
            continue
        script = problem.example if check is None else check
        assert script is not None
        result = _run(session, script, *outputs)
        if result.status or result.timed_out or result.exceeded:
            return False
        outputs.append(result.stdout.decode("utf-8", "replace"))
    return True
