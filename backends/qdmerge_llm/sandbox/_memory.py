"""What processes use of memory, as the kernel tells it.

Also given to the interpreter as text, before a session's supervisor's.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable

SOCKET = 4 * 212992
"""Bytes that a socket may hold beyond TCP's queues, by the kernel's defaults."""
SHARED = 1 << 20
"""Bytes of the largest mapping that the filter lets processes share."""


def told(path: str) -> str:
    """Return the text of a file of the kernel; "" if what it is about has ended."""
    with contextlib.suppress(OSError), open(path, errors="replace") as file:
        return file.read()
    return ""


def pages(pids: Iterable[int], proc: str = "/proc") -> int:
    """Return the bytes in use by processes: resident, shared pages in each, and what is shared
    without a name, which need not be a page of any.
    """
    total, nameless = 0, set()
    for pid in pids:
        sizes = told(f"{proc}/{pid}/statm").split()
        total += int(sizes[1]) * resource.getpagesize() if sizes else 0
        for line in told(f"{proc}/{pid}/maps").splitlines():
            if line.endswith("/dev/zero (deleted)"):
                nameless.add(line.split()[4])
    return total + len(nameless) * SHARED


def sockets(pid: int, proc: str = "/proc") -> int:
    """Return the bytes that the sockets of a process's network hold, or may hold."""
    words = told(f"{proc}/{pid}/net/sockstat").split()
    total = SOCKET * int(words[2]) if len(words) > 2 else 0
    for name in ("tcp", "tcp6"):
        for line in told(f"{proc}/{pid}/net/{name}").splitlines()[1:]:
            total += sum(int(queue, 16) for queue in line.split()[4].split(":"))
    return total


def written(folder: str) -> int:
    """Return the bytes in use of the file system of a folder."""
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
