"""AgentBench's operating system problems."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
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
    Source,
    calculator,
    normal,
    understand,
)
from qdmerge_llm.tasks.system._protocol import EMPTY, OUTPUT, SILENT, SLOW, SYSTEM, parse, report

_MOST_SECONDS = 60.0  # for what may be silent: set-up, checks, and a command in all
_Setup = tuple[bool, Limits, Problem]
"""Whether there are users beside root, limits, and what is set up."""
_working: set[_Setup] = set()
"""The set-ups that did not fail in this process; what others failed of may pass."""
_NOT_FOUND = re.compile(r"([\w./-]+): command not found")
_SUDO = re.compile(r"""(?:^|[|&;(`'"{]|\b(?:do|then|else)\s)\s*sudo\s+[-\w/]""", re.MULTILINE)
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

    The example runs before the model's first turn, in another session where set-up has written the
    same. Checkers run at the end with programs that the model could not replace
    (:meth:`~qdmerge_llm.sandbox.Session.check`).

    Args:
        sandbox: Where commands run.
        system: System prompt; None for the one of this kind.
        rounds: Turns the model has; None for 5.
        seconds: How long a command may be silent; the model's next turn comes then, and the command
            goes on. In all it has 60 seconds.
        cpu_seconds: CPU time of one process.
        output_chars: Length at which outputs are cut for the model, with a note.
        scripts: Folder of the scripts that rows name as files.
    """

    default_system: ClassVar[str] = SYSTEM
    default_rounds: ClassVar[int] = 5
    at_once: ClassVar[int] = 64

    def __init__(
        self,
        sandbox: Sandbox,
        system: str | None = None,
        rounds: PositiveInt | None = None,
        seconds: Seconds = 5.0,
        cpu_seconds: PositiveInt = 60,
        output_chars: Annotated[int, Field(ge=100)] = 800,
        scripts: Path | None = None,
    ) -> None:
        super().__init__(sandbox, system, rounds)
        # A session ends with the thread that opened it, so these live as long as the task.
        self._pool = ThreadPoolExecutor(2 * (os.cpu_count() or 1))
        most = max(seconds, _MOST_SECONDS)
        self._limits = Limits(wall=most, idle=seconds, cpu=cpu_seconds, output=1 << 20)
        self._output_chars = output_chars
        self._scripts = scripts

    @classmethod
    def options_problem(cls, options: Mapping[str, Any]) -> str | None:
        """Return why there are no scripts, or None."""
        folder = options.get("scripts")
        missing = folder is not None and not Path(folder).is_dir()
        return f"'scripts': there is no folder {folder}" if missing else None

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
            understand(item, Source(item["id"], complete=False))
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
        """Return the items whose scripts are missing, whose system cannot be set up, or whose
        example fails; what works is tried once in a process.
        """
        found: dict[str, str] = {}
        setups: dict[str, _Setup] = {}
        for item in items:
            try:
                problem = self._understand(item)
            except ValueError as error:
                found[item["id"]] = str(error)
                continue
            if self._sandbox.isolated and (problem.init or problem.start or problem.checks):
                setups[item["id"]] = (self._sandbox.users, self._limits, problem)
        new = [setup for setup in dict.fromkeys(setups.values()) if setup not in _working]
        reasons = dict(zip(new, self._pool.map(self._try, new), strict=True))
        _working.update(setup for setup, reason in reasons.items() if not reason)
        found.update((name, reasons[setup]) for name, setup in setups.items() if setup in reasons)
        return {item["id"]: found[item["id"]] for item in items if found.get(item["id"])}

    def _understand(self, item: Item) -> Problem:
        return understand(item, Source(item["id"], self._scripts))

    def _try(self, setup: _Setup) -> str:
        problem = setup[2]
        with self._sandbox.session(self._limits) as session:
            reason = self._set_up(session, problem)
            if not reason and problem.needs_example:
                reason = self._failure("example", self._run(session, problem.example))
            sudo = any(_SUDO.search(code) for code in problem.texts)
            if not reason and sudo and session.run(["bash", "-c", "command -v sudo"]).status:
                reason = "it needs sudo, which this machine has not"
        return reason

    @classmethod
    def gold(cls, item: Item) -> list[str]:
        """Return a perfect model's turns: the example, then its output (``{output}``)."""
        problem = understand(item, Source(item["id"], complete=False))
        if problem.match is not None:
            known = f"Think: I know the answer.\n\nAct: answer({problem.match.text})"
            return [] if problem.match.regex else [known]
        if problem.checks == ("0",):
            return [_bash(_CALC), "Think: It is done.\n\nAct: finish"]
        if problem.example is None or problem.example.language != "bash":
            return []
        quiet = f"{{ {problem.example.code}\n}} 2> /dev/null"
        return [_bash(quiet), "Think: That is it.\n\nAct: answer({output})"]

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
        try:
            problem = self._understand(item)
        except ValueError as error:
            raise EvaluationError(f"item {item['id']}: {error}") from error
        session = self._sandbox.session(self._limits)
        try:
            reason, expected = self._set_up(session, problem), ""
            if not reason and problem.needs_example:
                reason, expected = self._ask_example(session, problem)
            if reason:
                raise EvaluationError(f"item {item['id']}: {reason}")
        except BaseException:
            session.close()
            raise
        return Episode(item, self.opening(item["prompt"]), (problem, session, expected))

    def _set_up(self, session: Session, problem: Problem) -> str:
        """Prepare a system; return why that fails, or ""."""
        for script in problem.init:
            if reason := self._failure("init", self._run(session, script)):
                return reason
        if problem.start is None:
            return ""
        return self._failure("start", session.bash(problem.start), may_go_on=True)

    def _ask_example(self, session: Session, problem: Problem) -> tuple[str, str]:
        """Return why the example fails, or "", and its output. It runs in a system of its own; in
        the model's, before the first turn, where another set-up writes something else.
        """
        with self._sandbox.session(self._limits) as other:
            reason = self._set_up(other, problem)
            same = not reason and other.files() == session.files()
            result = self._run(other if same else session, problem.example)
        reason = reason or self._failure("example", result)
        return reason, result.stdout.decode("utf-8", "replace")

    def _run(self, session: Session, script: Script | None) -> Result:
        assert script is not None
        command = ["bash"] if script.language == "bash" else ["python3"]
        return session.run([*command, "-c", script.code], _MOST_SECONDS)

    def _failure(self, name: str, result: Result, may_go_on: bool = False) -> str:
        said = (result.stderr or result.stdout).decode(errors="replace")  # a shell's are one
        if result.running and may_go_on:
            return ""
        if not (result.status or result.timed_out or result.exceeded):
            missing = _NOT_FOUND.search(said)
            return f"its {name} needs {missing[1]}, which this machine has not" if missing else ""
        lines = said.strip().splitlines()
        slow = f"it takes more than {_MOST_SECONDS:g} seconds" if result.timed_out else None
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
        problem, session, expected = episode.state
        action = parse(episode.answer)
        if action is None:
            episode.end(0.0, "no action")
        elif action.kind == "finish":
            self._judge(episode, problem, session, action.text, expected)
        else:
            result = session.bash(action.text or "")
            if result.exceeded:
                episode.end(0.0, result.exceeded)
                return
            text = normal(result.stdout.decode("utf-8", "replace"))
            note = SILENT.format(seconds=self._limits.idle) if result.running else ""
            if result.timed_out and not result.running:
                note = SLOW.format(seconds=self._limits.wall)
            episode.tell(report(text, self._output_chars, note))

    def _judge(
        self,
        episode: Episode,
        problem: Problem,
        session: Session,
        answer: str | None,
        expected: str,
    ) -> None:
        if problem.match is not None:
            right = answer is not None and problem.match.accepts(answer)
        else:
            seed = episode.item["id"]
            right = _passes(problem, session, str(answer), expected, seed)
        episode.end(float(right), "" if right else session.over or "wrong answer")

    def close(self, episode: Episode) -> None:
        """End the session."""
        episode.state[1].close()


def _unlabeled(item: Item) -> Item:
    """Return a row as a question whose answer is of no interest."""
    return {**item, "evaluation": {"match": ""}}


def _bash(code: str) -> str:
    return f"Think: This finds out or does what is asked.\n\nAct: bash\n\n```bash\n{code}\n```"


def _passes(problem: Problem, session: Session, answer: str, expected: str, seed: str) -> bool:
    """Run the checkers in order, each with the answer and the outputs of those before it."""
    outputs = [answer]
    for check in problem.checks:
        if isinstance(check, str):
            other = outputs[1] if len(outputs) > 1 else ""
            if not (
                calculator(session, seed) if check == "0" else COMPARISONS[check](answer, other)
            ):
                return False
            outputs.append("")
        elif check is None:
            outputs.append(expected)
        else:
            result = session.check(check.language, check.code, *outputs, wall=_MOST_SECONDS)
            if result.status or result.timed_out or result.exceeded:
                return False
            outputs.append(result.stdout.decode("utf-8", "replace"))
    return True
