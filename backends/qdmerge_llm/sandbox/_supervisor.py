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
from typing import Any

TICK = 0.05  # seconds between two looks at what is used, while a command runs
IDLE = 0.25  # the same while none does
LIBC = ctypes.CDLL(None, use_errno=True)
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND = 1, 2, 4, 8, 32, 4096
HOST_IN, HOST_OUT = 200, 201  # where the pipes to the host are kept; below, commands find nothing


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


def mount(source: str | None, target: str, flags: int, options: str = "") -> None:
    """Mount, or change a mount; the type of a new one is left open. OSError if it fails."""
    names = [name.encode() if name else None for name in (source, target)]
    if LIBC.mount(names[0], names[1], None, flags, options.encode() or None):
        raise OSError(ctypes.get_errno(), f"mount {target}: {os.strerror(ctypes.get_errno())}")


def enclose(disk: int) -> None:
    """Bound the file systems in memory, and put the host's inodes out of root's reach."""
    mount(None, "/", REMOUNT | NOSUID | NODEV, f"size={disk},nr_inodes={disk >> 11}")
    mount(None, "/dev", REMOUNT | NOSUID | NODEV, "size=4m,nr_inodes=1024,mode=755")
    # The devices are the host's own, and much of /proc is about the kernel: both obey root, so
    # they are read-only (which does not keep data from /dev/null, or from a process's own files).
    for entry in os.scandir("/dev"):
        if not entry.is_symlink() and not entry.is_dir():
            mount(None, entry.path, REMOUNT | BIND | RDONLY | NOSUID | NOEXEC)
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() or entry.is_symlink():
            continue
        if entry.is_dir() or entry.stat().st_mode & 0o222:
            mount(entry.path, entry.path, BIND)
            mount(None, entry.path, REMOUNT | BIND | RDONLY | NOSUID | NOEXEC)


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
        with contextlib.suppress(OSError), open("/proc/sys/kernel/pid_max", "w") as file:
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


def furnish(files: list[list[Any]]) -> None:
    """Write ``[path, mode, text]``; no text stands for a folder, no mode for a link to it."""
    os.umask(0)
    for path, mode, text in files:
        if os.path.lexists(path):
            continue
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        if text is None:
            os.mkdir(path)
        elif mode is None:
            os.symlink(text, path)
        else:
            with open(path, "wb") as file:
                file.write(text.encode("utf-8", "surrogateescape"))
        if mode is not None:
            os.chmod(path, mode)
    os.umask(0o022)


def others() -> set[int]:
    """Return all processes but this one."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} - {1}


# The lasting shell: takes a command up to a NUL from descriptor 60, says its status on 61.
SHELL = """while IFS= read -r -d '' -u 60 __; do
{ eval "$__"; } 60<&- 61>&-
printf '%d\\n' "$?" >&61
done"""


class Supervisor:
    """Runs the host's requests until it is gone or a bound is passed."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        self.shell: dict[str, int] = {}  # its pid, and descriptors: ends, asks, tells, output
        self.statuses: dict[int, int | None] = {}  # of what was started here; None: not ended yet
        self.looked = 0.0

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
        pids, used = others(), 0
        if len(pids) > self.orders["processes"]:
            self.end("too many processes")
        for pid in pids:
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/statm", "rb") as file:
                used += int(file.read().split()[1]) * resource.getpagesize()
        if used > self.orders["total"]:
            self.end("too much memory")
        self.looked = time.monotonic()

    def end(self, reason: str) -> None:
        """End all that runs, and the session."""
        os.kill(-1, signal.SIGKILL)
        send({"over": reason})
        os._exit(0)

    def start(self, command: list[str], ends: dict[int, int]) -> dict[str, int]:
        """Start a command, confined, with descriptors (target: source); close the sources. Return
        its ``pid``, and ``ends``, which is readable once it has ended.
        """
        pid = os.fork()
        if pid:
            for end in set(ends.values()):
                os.close(end)
            self.statuses[pid] = None
            return {"pid": pid, "ends": os.pidfd_open(pid)}
        try:
            os.setsid()
            os.chdir("/root")
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            null = os.open("/dev/null", os.O_RDWR)
            ends = {0: null, 1: null, 2: null, **ends}
            ends = {target: fcntl.fcntl(end, fcntl.F_DUPFD, 100) for target, end in ends.items()}
            for target, end in ends.items():
                os.dup2(end, target)
            edges = [*sorted(ends), 1 << 16]
            for low, high in itertools.pairwise(edges):
                if low + 1 < high:
                    os.closerange(low + 1, high)
            for name, value in self.orders["rlimits"].items():
                kind = getattr(resource, name)
                hard = resource.getrlimit(kind)[1]
                limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.setrlimit(kind, (limit, limit))
            os.execvpe(command[0], command, self.orders["environment"])
        except BaseException as error:
            os.write(2, f"{error}\n".encode())
        os._exit(127)

    def alone(self, command: list[str]) -> dict[str, int]:
        """Start a command of its own, both outputs apart."""
        (output, stdout), (errors, stderr) = os.pipe(), os.pipe()
        started = self.start(command, {1: stdout, 2: stderr})
        return {**started, "output": output, "errors": errors}

    def ask(self, command: str) -> dict[str, int]:
        """Give a command to the lasting shell, started if there is none; outputs together."""
        if not self.shell:
            (requests, asks), (tells, status), (output, both) = os.pipe(), os.pipe(), os.pipe()
            ends = {1: both, 2: both, 60: requests, 61: status}
            started = self.start(["bash", "--noprofile", "--norc", "-c", SHELL], ends)
            self.shell = {**started, "asks": asks, "tells": tells, "output": output}
        data = command.replace("\0", "").encode("utf-8", "surrogateescape") + b"\0"
        with contextlib.suppress(BrokenPipeError):  # it has ended, as will be seen
            while data:
                data = data[os.write(self.shell["asks"], data) :]
        return self.shell

    def follow(
        self, job: dict[str, int], wall: float, size: int
    ) -> tuple[bytes, bytes, bool, bool]:
        """Collect both outputs until the job is done, or past its limit on time or output."""
        texts = {job[name]: bytearray() for name in ("output", "errors") if name in job}
        signs = [job[name] for name in ("ends", "tells") if name in job]
        pipes = list(texts)
        deadline = time.monotonic() + wall
        done = late = False
        while not (done or late) and sum(map(len, texts.values())) <= size:
            pause = max(0.0, min(TICK, deadline - time.monotonic()))
            ready = select.select([HOST_IN, *pipes, *signs], [], [], pause)[0]
            if HOST_IN in ready:  # it says nothing while it waits, so it is gone
                os._exit(0)
            done = any(sign in ready for sign in signs)
            late = time.monotonic() > deadline
            self.look(TICK)
            pipes = [pipe for pipe in pipes if self.take(pipe, texts[pipe], size)]
        out, err = (bytes(texts.get(job.get(name, -1), b"")) for name in ("output", "errors"))
        return out[:size], err[: size - len(out[:size])], done, len(out) + len(err) > size

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

    def serve(self) -> None:
        """Serve one request."""
        request = receive()
        before = others() - {self.shell.get("pid", 0)}
        shell = isinstance(request["command"], str)
        job = self.ask(request["command"]) if shell else self.alone(request["command"])
        out, err, done, truncated = self.follow(job, request["wall"], request["output"])
        told = b""
        if done and shell and select.select([job["tells"]], [], [], 0)[0]:
            told = os.read(job["tells"], 100)  # empty where the shell itself has ended
        if told:
            status = int(told) if told.strip().isdigit() else 1
        else:
            if not done or truncated:
                self.stop(before)
            status = self.status(job["pid"])
            for name in set(job) - {"pid"}:
                os.close(job[name])
            if shell:
                self.shell = {}
        send(
            {
                "stdout": out.decode("latin-1"),
                "stderr": err.decode("latin-1"),
                "status": 128 - status if status < 0 else status,
                "timed_out": not done and not truncated,
                "truncated": truncated,
            }
        )


def main() -> None:
    """Prepare the session, then serves the host; does not return."""
    os.dup2(0, HOST_IN, inheritable=False)
    os.dup2(1, HOST_OUT, inheritable=False)
    orders = receive()
    furnish(orders["files"])
    bound_processes(orders["pids"])
    enclose(orders["disk"])
    come_first()
    give_up(orders["capabilities"])
    filter_calls(bytes.fromhex(orders["filter"]))
    LIBC.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: closes /proc/1/mem, fd and environ
    null = os.open("/dev/null", os.O_RDWR)
    send({"ready": True})
    for standard in range(3):
        os.dup2(null, standard)
    supervisor = Supervisor(orders)
    while True:
        if select.select([HOST_IN], [], [], IDLE)[0]:
            supervisor.serve()
        else:
            supervisor.look(0.0)


if __name__ == "__main__":
    main()
