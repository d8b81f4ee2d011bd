"""Process 1 of a session: furnishes the system, runs commands, watches what they use.

Given to the interpreter as text. Messages from and to the host are JSON, each after its length in
16 digits. As process 1 it cannot be killed or stopped from inside, and when it ends, the kernel
ends all that runs in the session: at the end of its stdin (the host closed it, or is gone), and
when all processes together use more than they may.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import resource
import select
import signal
import struct
import time
import warnings  # noqa: F401  execvpe imports it, where modules would come from the system
from typing import Any

from qdmerge_llm.sandbox._layout import (
    LIBC,
    SYSTEM,
    Cover,
    enter,
    furnish,
    lay_out,
    place,
    state_of_files,
)
from qdmerge_llm.sandbox._memory import pages, sockets, told, written

TICK = 0.05  # seconds between two looks at what is used, while a command runs
IDLE = 0.25  # the same while none does
HOST_IN, HOST_OUT, FAILURE = (
    200,
    201,
    202,
)  # where the pipes to the host are kept; below, commands find nothing


def read(count: int) -> bytes:
    """Read exactly so many bytes from the host; end the session when the host is gone."""
    data = b""
    while len(data) < count:
        part = os.read(HOST_IN, count - len(data))
        if not part:
            os._exit(0)
        data += part
    return data


def receive() -> Any:
    """Return the host's next message."""
    return json.loads(read(int(read(16))))


def send(message: dict[str, Any]) -> None:
    """Send a message to the host."""
    body = json.dumps(message).encode()
    data = b"%16d" % len(body) + body
    while data:
        data = data[os.write(HOST_OUT, data) :]


def filter_calls(program: bytes) -> None:
    """Install a seccomp filter, for this process and all it starts."""
    text = ctypes.create_string_buffer(program, len(program))
    order = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(text))
    if program and LIBC.prctl(22, 2, ctypes.c_char_p(order), 0, 0):  # PR_SET_SECCOMP
        raise OSError(ctypes.get_errno(), "seccomp")


def bound_processes(processes: int | None) -> None:
    """Let the kernel bound the number of processes. None where it does not number them for each
    namespace: writing the number there would change the host's.
    """
    if processes is not None:
        path = f"{SYSTEM}/proc/sys/kernel/pid_max"
        with contextlib.suppress(OSError), open(path, "w") as file:
            file.write(str(301 + processes))  # numbers up to 300 are not given twice


def come_first() -> None:
    """Keep a flood of processes from holding up this one, where rights allow."""
    with contextlib.suppress(OSError):  # what is started from here has the ordinary priority again
        policy = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, -20)


def give_up(keep: int) -> None:
    """Keep these capabilities only; commands inherit no others."""
    header = ctypes.create_string_buffer(struct.pack("II", 0x20080522, 0))
    low, high = keep & 0xFFFFFFFF, keep >> 32
    data = ctypes.create_string_buffer(struct.pack("6I", low, low, low, high, high, high))
    if LIBC.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def others() -> set[int]:
    """Return all processes but this one."""
    return {int(name) for name in os.listdir(f"{SYSTEM}/proc") if name.isdigit()} - {1}


def state(pid: int) -> str:
    """Return the letter of a process's state; X if it has ended."""
    return (told(f"{SYSTEM}/proc/{pid}/stat").rpartition(")")[2].split() or ["X"])[0]


# The lasting shell: takes a command up to a NUL from descriptor 60, says its status on 61.
SHELL = """while IFS= read -r -d '' -u 60 __; do
{ eval "$__"; } 60<&- 61>&-
printf '%d\\n' "$?" >&61
done"""
SET_PIPE_SIZE = 1031
STOPPED = "TtDZXx"  # D has to end a call of the kernel first, before it runs on


class Supervisor:
    """Runs the host's requests until it is gone or a bound is passed."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        self.shell: dict[str, int] = {}  # its pid, and descriptors: ends, asks, tells, output
        self.waiting = 0  # commands that the shell has not ended
        self.statuses: dict[int, int | None] = {}  # of what was started here; None: not ended yet
        self.looked = 0.0
        self.truncated = False

    def reap(self) -> None:
        """Record children that ended, and reap orphans."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] in self.statuses:
                    self.statuses[found[0]] = os.waitstatus_to_exitcode(found[1])

    def look(self, pause: float) -> None:
        """End the session if all processes together use too much; looks once per ``pause``."""
        if time.monotonic() < self.looked + pause:
            return
        self.reap()
        pids = others()
        if len(pids) > self.orders["processes"]:
            self.end("too many processes")
        proc = f"{SYSTEM}/proc"
        if pages(pids, proc) + sockets(1, proc) + written("/") > self.orders["total"]:
            self.end("too much memory")
        self.looked = time.monotonic()

    def end(self, reason: str, key: str = "over") -> None:
        """End all that runs, and the session."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        send({"over": reason, key: reason})
        os._exit(0)

    def start(
        self, command: list[str], ends: dict[int, int], check: bool = False
    ) -> dict[str, int]:
        """Start a command, confined, with descriptors (target: source); close the sources. Return
        its ``pid``, and ``ends``, which is readable once it has ended.
        """
        failed, failure = os.pipe()
        pid = os.fork()
        if pid:
            for end in {failure, *ends.values()}:
                os.close(end)
            with os.fdopen(failed, "rb") as file:
                if said := file.read():
                    self.end(said.decode(errors="replace"), "failed")
            self.statuses[pid] = None
            return {"pid": pid, "ends": os.pidfd_open(pid)}
        try:
            os.setsid()
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            null = os.open(f"{SYSTEM}/dev/null", os.O_RDWR)
            ends = {0: null, 1: null, 2: null, FAILURE: failure, **ends}
            ends = {target: fcntl.fcntl(end, fcntl.F_DUPFD, 300) for target, end in ends.items()}
            for target, end in ends.items():
                os.dup2(end, target)
            edges = [*sorted(ends), 1 << 16]
            for low, high in itertools.pairwise(edges):
                if low + 1 < high:
                    os.closerange(low + 1, high)
            os.set_inheritable(FAILURE, False)
            cover = Cover(self.orders) if check else None
            enter(SYSTEM)
            for name, (soft, hard) in self.orders["rlimits"].items():
                kind = getattr(resource, name)
                most = resource.getrlimit(kind)[1]
                if most != resource.RLIM_INFINITY:
                    soft, hard = min(soft, most), min(hard, most)
                resource.setrlimit(kind, (soft, hard))
        except BaseException as error:
            os.write(FAILURE, f"{error!r}".encode())
            os._exit(127)
        try:  # from here on, what fails is the fault of the system
            if cover:
                cover.lay()
            give_up(self.orders["capabilities"])
            filter_calls(bytes.fromhex(self.orders["filter"]))
            name = "checks" if check else "environment"
            os.execvpe(command[0], command, self.orders[name])
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)

    def alone(self, command: list[str], check: bool) -> dict[str, int]:
        """Start a command of its own, both outputs apart."""
        (output, stdout), (errors, stderr) = os.pipe(), os.pipe()
        started = self.start(command, {1: stdout, 2: stderr}, check)
        return {**started, "output": output, "errors": errors}

    def ask(self, command: str) -> dict[str, int]:
        """Give a command to the lasting shell, started if there is none; outputs together. It comes
        after those that still run.
        """
        if not self.shell:
            (requests, asks), (tells, status), (output, both) = os.pipe(), os.pipe(), os.pipe()
            fcntl.fcntl(asks, SET_PIPE_SIZE, 1 << 20)
            ends = {1: both, 2: both, 60: requests, 61: status}
            started = self.start(["bash", "--noprofile", "--norc", "-c", SHELL], ends)
            self.shell = {**started, "asks": asks, "tells": tells, "output": output}
            self.waiting = 0
        data = command.replace("\0", "").encode("utf-8", "surrogateescape") + b"\0"
        self.waiting += 1
        with contextlib.suppress(BrokenPipeError):  # it has ended, as will be seen
            while data:
                data = data[os.write(self.shell["asks"], data) :]
        return self.shell

    def follow(self, job: dict[str, int], limits: dict[str, Any]) -> tuple[bytes, bytes, str, int]:
        """Collect both outputs until the job is ``done``, or past its limit on time (``late``),
        silence (``silent``) or output (``full``). Return them, which of these, and the last status
        that the lasting shell has told, or -1.
        """
        texts = {job[name]: bytearray() for name in ("output", "errors") if name in job}
        signs = [job[name] for name in ("ends", "tells") if name in job]
        pipes = list(texts)
        heard = time.monotonic()
        deadline, size, idle, status = heard + limits["wall"], limits["output"], limits["idle"], -1
        why = ""
        while not why:
            pause = max(0.0, min(TICK, deadline - time.monotonic()))
            ready = select.select([HOST_IN, *pipes, *signs], [], [], pause)[0]
            if HOST_IN in ready:  # it says nothing while it waits, so it is gone
                os._exit(0)
            before, now = sum(map(len, texts.values())), time.monotonic()
            if "tells" in job and job["tells"] in ready:
                lines = os.read(job["tells"], 100).split()
                status = int(lines[-1]) if lines else -1
                self.waiting -= len(lines)
                if not lines or self.waiting <= 0:
                    why = "done"
            elif job["ends"] in ready:
                why = "done"
            self.look(TICK)
            pipes = [pipe for pipe in pipes if self.take(pipe, texts[pipe], size)]
            total = sum(map(len, texts.values()))
            heard = now if total > before else heard
            self.truncated = total > size
            if not why and total > size:
                why = "full"
            elif not why and now > deadline:
                why = "late"
            elif not why and idle is not None and now > heard + idle:
                why = "silent"
        out, err = (bytes(texts.get(job.get(name, -1), b"")) for name in ("output", "errors"))
        return out[:size], err[: size - len(out[:size])], why, status

    def take(self, pipe: int, text: bytearray, size: int) -> bool:
        """Take what has been written up to now; returns whether more may come."""
        while len(text) <= size and select.select([pipe], [], [], 0)[0]:
            part = os.read(pipe, 65536)
            if not part:
                return False
            text += part
        return True

    def status(self, pid: int) -> int:
        """Return the status of an ended process that was started here, and forget it."""
        self.reap()
        status = self.statuses.pop(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if status is None else status

    def stop(self, spared: set[int]) -> None:
        """Kill all processes but these."""
        for _ in range(100):
            self.reap()
            left = others() - spared
            if not left:
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def freeze(self) -> set[int]:
        """Stop all processes, which stay to be seen; end the session if some go on."""
        stopped: set[int] = set()
        for _ in range(100):
            self.reap()
            found = others()
            if found <= stopped and all(state(pid) in STOPPED for pid in found):
                return found
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            stopped = found
            time.sleep(0.005)
        self.end("processes could not be stopped for the check")
        return set()

    def serve(self) -> None:
        """Serve one request."""
        request = receive()
        if request.get("files"):
            send({"files": state_of_files()})
            return
        command, check = request["command"], request["check"]
        if check:
            place(self.orders["tools"], self.orders["prefix"])
        before = self.freeze() if check else others() - {self.shell.get("pid", 0)}
        shell = isinstance(command, str)
        job = self.ask(command) if shell else self.alone(command, check)
        out, err, why, last = self.follow(job, request)
        if why == "silent" or (shell and last >= 0 and why == "done"):
            status = max(last, 0)
        else:
            if why != "done" or check:
                self.stop(before)
            status = self.status(job["pid"])
            for name in set(job) - {"pid"}:
                os.close(job[name])
            if shell:
                self.shell = {}
        if check and any(state(pid) not in STOPPED for pid in before & others()):
            self.end("processes could not be stopped for the check")
        send(
            {
                "stdout": out.decode("latin-1"),
                "stderr": err.decode("latin-1"),
                "status": 128 - status if status < 0 else status,
                "timed_out": why in ("late", "silent"),
                "running": why == "silent",
                "truncated": self.truncated,
            }
        )


def main() -> None:
    """Prepare the session, then serves the host; does not return."""
    os.dup2(0, HOST_IN, inheritable=False)
    os.dup2(1, HOST_OUT, inheritable=False)
    orders = receive()
    bound_processes(orders["pids"])
    lay_out(orders["disk"])
    furnish(orders["files"], SYSTEM)
    come_first()
    LIBC.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: closes /proc/1/mem, fd and environ
    null = os.open(f"{SYSTEM}/dev/null", os.O_RDWR)
    send({"ready": True})
    for standard in range(3):
        os.dup2(null, standard)
    supervisor = Supervisor(orders)
    while True:
        if select.select([HOST_IN], [], [], IDLE)[0]:
            supervisor.serve()
        else:
            supervisor.look(0.0)
