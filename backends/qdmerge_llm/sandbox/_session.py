"""The host's side of a session: a throw-away system in which many commands run."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from qdmerge.errors import EvaluationError
from qdmerge_llm.sandbox import _checks
from qdmerge_llm.sandbox._bwrap import KEPT, Mode, session_args
from qdmerge_llm.sandbox._filter import filter_program
from qdmerge_llm.sandbox._processes import Limits, Result, end
from qdmerge_llm.sandbox._system import ENVIRONMENT, system_files

_MODULES = {
    name: Path(__file__).with_name(f"{name}.py").read_bytes()
    for name in ("_memory", "_layout", "_supervisor")
}
# The supervisor's text comes over its stdin: its command line is seen inside.
_BOOT = """import os, sys, types
for name, size in {sizes}:
    text, module = b"", types.ModuleType("{package}." + name)
    while len(text) < size: text += os.read(0, size - len(text))
    sys.modules[module.__name__] = module
    exec(text, module.__dict__)
module.main()"""
_SLACK = 10.0  # seconds the supervisor may take beyond a command's own time


class Session:
    """A throw-away system, opened by :meth:`Sandbox.session`.

    Commands run one after the other, as root, and share the file system and what earlier ones left
    running. A command that takes too long or writes too much is ended with all it started; earlier
    background processes and the files stay. When all processes together pass ``processes`` or
    ``total`` of the limits, also between commands, the session itself ends: its results say so,
    this one and all further ones.

    Attributes:
        over: Why the session has ended, or None.
    """

    def __init__(self, mode: Mode, limits: Limits) -> None:
        self.over: str | None = None
        self._limits = limits
        self._python = mode.python
        sizes = [(name, len(text)) for name, text in _MODULES.items()]
        boot = _BOOT.format(sizes=sizes, package=__name__.rpartition(".")[0])
        info, info_w = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*session_args(mode, info_w), mode.python, "-I", "-S", "-c", boot],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C"},
                pass_fds=(info_w,),
                start_new_session=True,
            )
        except BaseException:
            os.close(info)
            raise
        finally:
            os.close(info_w)
        self._first: int | None = None
        try:
            self._exchange(_orders(mode, limits), 30.0, b"".join(_MODULES.values()))
            with suppress(OSError, ValueError, KeyError):
                os.set_blocking(info, False)
                self._first = json.loads(os.read(info, 4096))["child-pid"]
        finally:
            os.close(info)
        if self.over is not None:
            assert self._process.stderr is not None
            said = self._process.stderr.read().decode(errors="replace").split("\n")
            self.close()
            reason = next((line for line in reversed(said) if line), "no answer")
            raise EvaluationError(f"the sandbox did not start: {reason}")

    def bash(self, command: str, wall: float | None = None) -> Result:
        """Run a command in the session's lasting shell: its directory and variables stay.

        A new shell takes over where the last one has ended (``exit``, or a limit). A command that
        is silent for ``idle`` of the limits goes on, and the next one comes after it.

        Args:
            command: What the shell evaluates; its standard input is empty.
            wall: Seconds it may take, if not those of the limits.

        Returns:
            The result; ``stdout`` holds standard output and error as they came.
        """
        return self._run(command, wall, self._limits.idle)

    def run(self, command: Sequence[str], wall: float | None = None) -> Result:
        """Run a command of its own, outside the lasting shell, in ``/``."""
        return self._run(list(command), wall)

    def check(self, language: str, code: str, *args: str, wall: float | None = None) -> Result:
        """Look at the system with programs that nobody in it could replace.

        All processes of the session are stopped for good, to be seen but not to act. The program's
        own interpreter, and others that it names, are the host's, with the host's libraries.

        Args:
            language: "bash" or "python" (isolated, standard library only).
            code: The program.
            args: Its arguments.
            wall: Seconds it may take, if not those of the limits.

        Raises:
            EvaluationError: The sandbox cannot set this up.
        """
        return self._run([*_checks.command(language, code, self._python), *args], wall, check=True)

    def files(self) -> str:
        """Return a digest of all that has been written to the system."""
        return str(self._exchange({"files": True}, 60.0).get("files", self.over))

    def _run(
        self,
        command: str | list[str],
        wall: float | None,
        idle: float | None = None,
        check: bool = False,
    ) -> Result:
        start = time.monotonic()
        wall = self._limits.wall if wall is None else wall
        order = {"command": command, "check": check, "wall": wall, "idle": idle}
        order["output"] = self._limits.output
        answer = {} if self.over else self._exchange(order, wall + _SLACK)
        if self.over:
            return Result(b"", b"", 137, time.monotonic() - start, False, False, self.over)
        return Result(
            answer["stdout"].encode("latin-1"),
            answer["stderr"].encode("latin-1"),
            answer["status"],
            time.monotonic() - start,
            answer["timed_out"],
            answer["truncated"],
            running=answer["running"],
        )

    def _exchange(
        self, message: dict[str, Any], wall: float, before: bytes = b""
    ) -> dict[str, Any]:
        """Send a message and return its answer; end the session where there is none."""
        assert self._process.stdin is not None
        body = json.dumps(message).encode()
        data = memoryview(before + b"%16d" % len(body) + body)
        with suppress(BrokenPipeError):  # its last words may still be there to read
            while data:
                data = data[self._process.stdin.write(data) :]
        deadline = time.monotonic() + wall
        head = self._read(16, deadline)
        body = self._read(int(head), deadline) if head else b""
        answer: dict[str, Any] = json.loads(body) if body else {"over": "it was ended"}
        if "over" in answer:
            self.over = answer["over"]
            self._kill()
        if "failed" in answer:
            raise EvaluationError(f"a session's command could not be set up: {answer['failed']}")
        return answer

    def _read(self, count: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        data = b""
        while len(data) < count:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                return b""
            part = os.read(self._process.stdout.fileno(), count - len(data))
            if not part:
                return b""
            data += part
        return data

    def _kill(self) -> None:
        end(self._process, self._first)
        self._process.wait()

    def close(self) -> None:
        """End all that runs in the session; the system is gone with it."""
        self.over = self.over or "it was closed"
        self._kill()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _linux() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))


def _orders(mode: Mode, limits: Limits) -> dict[str, Any]:
    rlimits = {name: (value, value) for name, value in limits.of_each_process().items()}
    rlimits["RLIMIT_NOFILE"] = (1024, 4096)  # as in a container
    if mode.name != "root":
        rlimits["RLIMIT_NPROC"] = (limits.processes, limits.processes)
    return {
        "files": system_files(mode.python),
        "tools": _checks.tools(mode.python),
        "prefix": _checks.PREFIX,
        "covered": _checks.COVERED,
        "removed": _checks.REMOVED,
        "renewed": _checks.RENEWED,
        "environment": ENVIRONMENT,
        "checks": _checks.environment(),
        "disk": limits.disk,
        "processes": limits.processes,
        # Linux 6.14 and later have one kernel.pid_max for each process namespace.
        "pids": 2 * limits.processes if mode.name == "root" and _linux() >= (6, 14) else None,
        "total": limits.total,
        "capabilities": KEPT,
        "filter": filter_program(locks=True).hex(),
        "rlimits": rlimits,
    }
