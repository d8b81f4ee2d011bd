"""What no process owns, and calls that reach other processes or the host."""

from __future__ import annotations

import platform

import pytest

from qdmerge_llm.sandbox import Limits, Sandbox
from tests.backends.llm.test_sandbox import MIB, python

# Memory that is no process's own: pages that stay in shared memory though hardly any is mapped, and
# what waits in sockets. More than 200 MiB each.
NOBODYS = {
    "shared mappings": """
import ctypes, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
for _ in range(250):
    at = libc.mmap(None, 1 << 20, 3, 0x21, -1, 0)
    ctypes.memset(at, 1, 1 << 20)
    libc.munmap(ctypes.c_void_p(at + 4096), (1 << 20) - 4096)
""",
    "sockets": """
import os, socket, time
for _ in range(8):
    if os.fork() == 0:
        break
held = [socket.socketpair() for _ in range(100)]
for pair in held:
    for end in pair:
        end.setblocking(False)
        try:
            while True:
                end.send(bytes(65536))
        except OSError:
            pass
""",
}


@pytest.mark.parametrize("name", NOBODYS)
def test_memory_that_is_no_processs_own_counts(name: str, sandbox: Sandbox) -> None:
    code = NOBODYS[name] + "\nprint('held', flush=True)\ntime.sleep(60)"
    limits = Limits(total=200 * MIB, wall=20)
    assert python(sandbox, code, limits).exceeded == "too much memory"
    with sandbox.session(limits) as session:
        result = session.run(["python3", "-c", code])
        assert (result.exceeded, result.stdout) == ("too much memory", b"")


def test_large_shared_mappings_are_refused(sandbox: Sandbox) -> None:
    code = "import mmap; mmap.mmap(-1, 1 << 20); print(1); mmap.mmap(-1, (1 << 20) + 1); print(2)"
    result = python(sandbox, code)
    assert (result.stdout, b"Cannot allocate memory" in result.stderr) == (b"1\n", True)


# Calls by number (x86_64, aarch64), on other processes or shared with the host.
CALLS = {
    "prlimit64": ((302, 261), "PARENT, 7, 0, 0"),
    "sched_setscheduler": ((144, 119), "PARENT, 5, ZERO"),
    "sched_setparam": ((142, 118), "PARENT, ZERO"),
    "sched_setattr": ((314, 274), "PARENT, ZERO, 0"),
    "sched_setaffinity": ((203, 122), "PARENT, 8, ONE"),
    "setpriority": ((141, 140), "0, PARENT, 19"),
    "setpriority of a group": ((141, 140), "1, 0, 19"),
    "ioprio_set": ((251, 30), "1, PARENT, 0x6000"),
    "mq_open": ((240, 180), "b'x', 0o102, 0o600, 0"),
    "fanotify_init": ((300, 262), "0, 0"),
    "inotify_init1": ((294, 26), "0"),
    "syslog": ((103, 116), "10, 0, 0"),
    "AF_VSOCK": ((41, 198), "40, 1, 0"),
    "AF_ALG": ((41, 198), "38, 5, 0"),
    "AF_TIPC in pairs": ((53, 199), "30, 2, 0, ZERO"),
    "lease": ((72, 25), "os.open('/etc/ld.so.cache', 0), 1024, 0"),
    "timer": ((222, 107), "0, 0, ZERO"),
    "flock": ((73, 32), "os.open('/etc/ld.so.cache', 0), 2"),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_that_reach_others_are_refused(name: str, sandbox: Sandbox) -> None:
    numbers, arguments = CALLS[name]
    call = f"libc.syscall({numbers[platform.machine() == 'aarch64']}, {arguments})"
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
PARENT, ZERO, ONE = os.getpid() if os.fork() else 0, ctypes.create_string_buffer(64), b"\\1" * 8
PARENT = PARENT or os.getppid()
print({call}, end=" ")
"""
    assert set(python(sandbox, code).stdout.split()) == {b"-1"}
    if name != "flock":  # in a session it is of an overlay, not of the host's file
        with sandbox.session() as session:
            assert set(session.run(["python3", "-c", code]).stdout.split()) == {b"-1"}


def test_calls_about_oneself_are_not(sandbox: Sandbox) -> None:
    code = """
import os, resource, socket, subprocess, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
os.sched_setaffinity(0, os.sched_getaffinity(0))
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.nice(1)
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
    socket.socket(family, socket.SOCK_RAW if family == socket.AF_NETLINK else socket.SOCK_STREAM)
threading.Thread(target=print, args=("thread",)).start()
subprocess.run(["timeout", "9", "echo", "well"])
"""
    result = python(sandbox, code)
    assert (sorted(result.stdout.split()), result.stderr) == ([b"thread", b"well"], b"")
