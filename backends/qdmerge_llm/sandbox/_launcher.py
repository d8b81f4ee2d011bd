"""Runs inside a sandbox before the command: takes its orders, confines itself, becomes the command.

Given to the interpreter as text. The orders are the head of stdin, the rest is left to the command.
Files are written after root is given up, so they belong to whom the command runs as.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import struct
import sys


def read(count: int) -> bytes:
    """Read exactly so many bytes of stdin, past Python's buffer."""
    data = b""
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            sys.exit("no orders")
        data += part
    return data


def bound_files(disk: int) -> None:
    """Bound the number of files in ``/tmp``: each takes memory beyond its size. Needs a capability
    of root, so elsewhere there is no such bound.
    """
    options = f"size={disk},nr_inodes={disk >> 11}".encode()
    ctypes.CDLL(None).mount(None, b"/tmp", None, 32 | 2 | 4, options)  # MS_REMOUNT, NOSUID, NODEV


def filter_calls(program: bytes) -> None:
    """Install a seccomp filter, for this process and all it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    text = ctypes.create_string_buffer(program, len(program))
    order = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(text))
    if program and libc.prctl(22, 2, ctypes.c_char_p(order), 0, 0):  # PR_SET_SECCOMP
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    """Follow the orders; does not return."""
    orders = json.loads(read(int(read(16))))
    uid = orders["uid"]
    if uid is not None:
        bound_files(orders["disk"])
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    os.umask(0o022)
    for name, text in orders["files"].items():
        if os.path.dirname(name):
            os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
    for name, value in orders["rlimits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (limit, limit))
    filter_calls(bytes.fromhex(orders["filter"]))
    os.write(orders["ready"], b"1")
    os.close(orders["ready"])
    try:
        os.execvp(orders["command"][0], orders["command"])
    except OSError as error:
        print(error, file=sys.stderr)
        os._exit(127)


if __name__ == "__main__":
    main()
