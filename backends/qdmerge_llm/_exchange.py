"""Talks to a process within limits on time and output."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one command may use. Sizes are bytes, times seconds.

    ``memory``, ``cpu`` and ``file_size`` hold for each process; ``processes``, ``output`` (stdout
    and stderr together), ``disk`` (the private ``/tmp``) and ``wall`` for all of them together.
    ``idle`` is the longest silence: who writes nothing for so long is stopped as timed out.
    Memory of all processes together has no bound but ``memory`` times ``processes``.
    """

    wall: float = 10.0
    cpu: float = 10.0
    memory: int = 512 * _MIB
    processes: int = 64
    file_size: int = 16 * _MIB
    output: int = _MIB
    disk: int = 64 * _MIB
    idle: float | None = None


def exchange(
    process: subprocess.Popen[bytes], data: bytes, limits: Limits, kill: Callable[[], None]
) -> tuple[bytes, bytes, bool, bool]:
    """Feed stdin, collect stdout and stderr; past a limit ``kill`` and say which (time, size)."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output: dict[Any, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    timed_out = truncated = False
    view = memoryview(data)
    start = heard = time.monotonic()
    with selectors.DefaultSelector() as selector:
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        for stream in output:
            selector.register(stream, selectors.EVENT_READ)
        while any(stream in selector.get_map() for stream in output):
            deadline = start + limits.wall
            if limits.idle is not None:
                deadline = min(deadline, heard + limits.idle)
            left = deadline - time.monotonic()
            if left <= 0:
                timed_out = True
                kill()
                break
            for key, _ in selector.select(left):
                if key.fileobj is process.stdin:
                    try:
                        view = view[os.write(key.fd, view[:65536]) :]
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:
                        view = view[:0]
                    if not view:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                part = os.read(key.fd, 65536)
                heard = time.monotonic()
                if not part:
                    selector.unregister(key.fileobj)
                output[key.fileobj] += part
            if sum(map(len, output.values())) > limits.output:
                truncated = True
                kill()
                break
    process.stdin.close()
    out, err = bytes(output[process.stdout]), bytes(output[process.stderr])
    out = out[: limits.output]
    return out, err[: limits.output - len(out)], timed_out, truncated
