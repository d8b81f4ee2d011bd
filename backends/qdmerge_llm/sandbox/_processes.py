"""Limits of a command, and processes that are held to them."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_MIB = 1 << 20
_TICK = 0.05  # seconds between two looks at the memory that is used


@dataclass(frozen=True)
class Limits:
    """What one command may use. Sizes are bytes, times seconds.

    ``memory``, ``cpu`` and ``file_size`` hold for each process; ``processes``, ``output`` (stdout
    and stderr together), ``disk`` (the private ``/tmp``; in a session, all that is written),
    ``wall`` and ``total`` for all of them together. ``total`` is memory: of processes, sockets,
    shared mappings and, in a session, files; looked at 20 times a second, so it may be passed for a
    moment.
    ``idle`` is the longest silence: who writes nothing for so long is stopped as timed out, or left
    alone in the shell of a session.
    """

    wall: float = 10.0
    cpu: float = 10.0
    memory: int = 512 * _MIB
    processes: int = 64
    file_size: int = 16 * _MIB
    output: int = _MIB
    disk: int = 64 * _MIB
    total: int = 1024 * _MIB
    idle: float | None = None

    def of_each_process(self) -> dict[str, int]:
        """Return the resource limits of every process, by name."""
        return {
            "RLIMIT_CPU": max(1, round(self.cpu)),
            "RLIMIT_AS": self.memory,
            "RLIMIT_FSIZE": self.file_size,
            "RLIMIT_CORE": 0,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_SIGPENDING": 1024,
            "RLIMIT_NOFILE": 256,
        }


@dataclass(frozen=True)
class Result:
    """The result of a command.

    Attributes:
        stdout: Standard output.
        stderr: Standard error.
        status: Exit code, or 128 + the signal that ended it.
        seconds: How long it took.
        timed_out: It was ended at the limit on time.
        truncated: It was ended at the limit on output.
        exceeded: The limit on all processes together at which it was ended, or None.
        running: It was silent for too long, and goes on (:meth:`Session.bash`).
    """

    stdout: bytes
    stderr: bytes
    status: int
    seconds: float
    timed_out: bool
    truncated: bool
    exceeded: str | None = None
    running: bool = False


def exchange(
    process: subprocess.Popen[bytes],
    data: bytes,
    limits: Limits,
    kill: Callable[[], None],
    used: Callable[[], int],
) -> tuple[bytes, bytes, bool, bool, str | None]:
    """Feed stdin, collect outputs, ``kill`` past a limit (also of bytes ``used``). Return
    ``stdout``, ``stderr``, ``timed_out``, ``truncated`` and ``exceeded`` of a :class:`Result`.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output: dict[Any, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    timed_out = truncated = exceeded = False
    view = memoryview(data)
    start = heard = looked = time.monotonic()
    with selectors.DefaultSelector() as selector:
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        for stream in output:
            selector.register(stream, selectors.EVENT_READ)
        while any(stream in selector.get_map() for stream in output):
            deadline = start + limits.wall
            if limits.idle is not None:
                deadline = min(deadline, heard + limits.idle)
            now = time.monotonic()
            timed_out = now >= deadline
            truncated = sum(map(len, output.values())) > limits.output
            if now > looked + _TICK:
                exceeded, looked = used() > limits.total, now
            if timed_out or truncated or exceeded:
                kill()
                break
            for key, _ in selector.select(min(deadline - now, _TICK)):
                if key.fileobj is process.stdin:
                    view = _write(key.fd, view)
                    if not view:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                part = os.read(key.fd, 65536)
                heard = time.monotonic()
                if not part:
                    selector.unregister(key.fileobj)
                output[key.fileobj] += part
    process.stdin.close()
    end = max(start + limits.wall, time.monotonic() + _TICK)
    while not (timed_out or truncated or exceeded):  # it may close its output and continue
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TICK)
            break
        timed_out = time.monotonic() >= end
        exceeded = used() > limits.total
        if timed_out or exceeded:
            kill()
    out, err = bytes(output[process.stdout]), bytes(output[process.stderr])
    truncated = truncated or len(out) + len(err) > limits.output
    out = out[: limits.output]
    err = err[: limits.output - len(out)]
    return out, err, timed_out, truncated, "too much memory" if exceeded else None


def _write(stdin: int, view: memoryview) -> memoryview:
    """Write what fits; return the rest, nothing if nobody reads any more."""
    try:
        return view[os.write(stdin, view[:65536]) :]
    except BlockingIOError:
        return view
    except BrokenPipeError:
        return view[:0]


def family(first: int) -> list[int]:
    """Return a process and its descendants. Process 1 of a process namespace has all others of it
    as descendants.
    """
    found, stack = [], [first]
    while stack:
        pid = stack.pop()
        found.append(pid)
        with suppress(OSError):  # it has just ended
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                    stack += map(int, file.read().split())
    return found


def end(process: subprocess.Popen[bytes], first: int | None) -> None:
    """End the sandbox of bwrap ``process`` by its first process inside, whose namespace the kernel
    ends. (Killed first, bwrap leaves the rest to the machine's process 1, which may be slow.)
    """
    if process.poll() is None and first is not None:
        with suppress(ProcessLookupError):
            os.kill(first, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
