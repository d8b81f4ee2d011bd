"""What a model may write at its worst: the host stays as it was, the other items count, this one
fails. In batches as nobody and in sessions as root."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import PythonTask
from qdmerge_llm.tasks.system import AgentBenchOSTask

SECRET = f"hunter2-{os.getpid()}"

# Each leaves what it got hold of in `loot`; `needle` is the secret, which stands nowhere in full,
# `secret` a file of the host that holds it, `mark` a name for traces.
ATTACKS = {
    "fork bomb": """
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
    "fork bomb in the shell": "os.system('b() { b | b & }; b; sleep 60')",
    "memory hog": """
hoard = []
while True:
    try:
        hoard.append(bytearray(1 << 24))
    except MemoryError:
        pass
""",
    "memory hog of many processes": """
for _ in range(30):
    if os.fork() == 0:
        hoard = b"x" * (100 << 20)
        time.sleep(60)
time.sleep(60)
""",
    "memory that has no owner": """
if libc.shmget(1, 15 << 20, 0o1600) >= 0:
    loot = needle
try:
    os.ftruncate(os.memfd_create("hoard"), 1)
    loot = needle
except OSError:
    pass
""",
    "many files": """
for number in range(10**9):
    with open(f"{mark}-{number}", "w") as file:
        file.write("x" * 9999)
""",
    "many empty files": """
os.mkdir("d")
for number in range(10**9):
    open(f"d/{number}", "w").close()
""",
    "endless output": """
while True:
    os.write(1, b"y" * 65536)
""",
    "binary garbage": """
for stream in (1, 2, 3):
    try:
        os.write(stream, bytes(range(256)) * 16 + b'\\n{"ended": true, "output": "1"}\\n')
    except OSError:
        pass
loot = bytes(range(256)).decode("latin-1")
""",
    "sleeping forever": "time.sleep(600)",
    "deaf to signals": """
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    time.sleep(1)
""",
    "deleting everything": "os.system('rm -rf --no-preserve-root / /proc/1/cwd/* 2>/dev/null')",
    "writing to the host": """
folders = ["/", "/usr", "/usr/bin", "/etc", "/root", "/home", "/var", "/tmp", "/var/tmp", "/dev"]
for folder in [*folders, "/dev/shm", os.path.dirname(secret), "/proc/1/root", "/proc/1/cwd"]:
    for name in (mark, "../" * 9 + folder + "/" + mark):
        try:
            os.makedirs(folder, exist_ok=True)
            open(os.path.join(folder, name), "w").close()
        except OSError:
            pass
for path in (secret, "/etc/passwd", "/dev/null"):
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.chmod(path, 0o600)
        open(path, "a").write(mark)
    except OSError:
        pass
""",
    "the devices of the host": """
for path in ("/dev/null", "/dev/zero", "/dev/tty"):
    try:
        os.chmod(path, 0o606)
        loot = needle
    except OSError:
        pass
for number in (1, 8, 253, 254):
    try:
        os.mknod(f"disk{number}", 0o60666, os.makedev(number, 0))
        os.open(f"disk{number}", os.O_RDONLY)
        loot = needle
    except OSError:
        pass
""",
    "the kernel's settings": """
for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/kcore",
             "/proc/sysrq-trigger", "/proc/acpi/wakeup", "/proc/mtrr", "/sys/kernel/uevent_helper"):
    try:
        os.close(os.open(path, os.O_RDWR))
        loot = needle
    except OSError:
        pass
""",
    "new namespaces and mounts": """
tries = [lambda: libc.unshare(0x10000000), lambda: libc.unshare(0x20000),
         lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, None), lambda: libc.chroot(b"/tmp"),
         lambda: libc.umount2(b"/proc/sys", 2), lambda: libc.syscall(250, 0, -3, 1)]
if any(attempt() >= 0 for attempt in tries):
    loot = needle
""",
    "reading secrets": """
paths = [secret, "/etc/shadow", "/root/.ssh/id_rsa", "/proc/1/environ", "/proc/self/environ"]
paths += [f"/proc/{number}/environ" for number in os.listdir("/proc") if number.isdigit()]
paths += [f"/proc/{number}/root{secret}" for number in os.listdir("/proc") if number.isdigit()]
for path in paths:
    try:
        text += open(path, errors="replace").read()
    except OSError:
        pass
text += repr(dict(os.environ)) + os.popen("env; set; ps axeww 2>&1").read()
""",
    "symlinks": """
os.symlink(secret, "link")
os.symlink("/", "rootlink")
os.symlink("/proc/1/root", "one")
for path in ("link", "rootlink" + secret, "one" + secret, "../" * 12 + secret, "/proc/self/root"
             + secret, "/proc/self/cwd/" + "../" * 12 + secret, "/proc/1/fd/0", "/proc/1/mem"):
    try:
        text += open(path, errors="replace").read()
    except OSError:
        pass
""",
    "sockets": """
addresses = [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_UNIX, "\\0" + mark),
             (socket.AF_UNIX, os.path.join(os.path.dirname(secret), "s")),
             (socket.AF_INET, ("1.1.1.1", 53)), (socket.AF_INET6, ("::1", port))]
for family, address in addresses:
    try:
        connection = socket.socket(family)
        connection.settimeout(0.2)
        connection.connect(address)
        text += connection.recv(100).decode()
    except OSError:
        pass
""",
    "zombies and daemons": """
for _ in range(20):
    if os.fork() == 0:
        os._exit(0)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
""",
    "killing all others": """
for process in (os.getppid(), 1, 2, -1):
    try:
        os.kill(process, signal.SIGKILL)
    except OSError:
        pass
""",
    "stopping the parent": """
for process in (os.getppid(), 1):
    os.kill(process, signal.SIGSTOP)
time.sleep(60)
""",
}
HEAD = """
import ctypes, os, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
needle, secret, mark, port = {backwards!r}[::-1], {secret!r}, {mark!r}, {port}
loot, text = "nothing", ""
"""
TAIL = """
if needle in text:
    loot = needle
"""


def descendants() -> set[int]:
    """Processes that this one started, and theirs."""
    found, stack = set(), [os.getpid()]
    while stack:
        pid = stack.pop()
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                new = set(map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()))
                stack += new - found
                found |= new
        except OSError:
            pass
    return found


def namespace(pid: int | str) -> str:
    """The process namespace that a process lives in."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def runs(pid: str) -> bool:
    """Whether a process is more than an entry that its parent has not looked at yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@dataclass
class Host:
    """What must not change, and what attacks are told."""

    folder: Path
    mark: str
    port: int = 0
    namespaces: set[str] = field(default_factory=set)
    watching: bool = True

    def attack(self, name: str) -> str:
        told = {"backwards": SECRET[::-1], "secret": str(self.folder / "secret")}
        return HEAD.format(**told, mark=self.mark, port=self.port) + ATTACKS[name] + TAIL

    def look(self) -> dict[str, Any]:
        """The host as it is: mounts, files that matter, traces."""
        places = ["/", "/usr", "/usr/bin", "/etc", "/home", "/dev", "/var", str(self.folder)]
        files = [self.folder / "secret", "/etc/passwd", "/etc/group", "/usr/bin/env"]
        devices = ["/dev/null", "/dev/zero", "/dev/tty", "/proc/sys/kernel/core_pattern"]
        everywhere = [*places, "/root", "/tmp", "/var/tmp", "/dev/shm", os.getcwd()]
        return {
            "mounts": sorted(Path("/proc/self/mounts").read_text().splitlines()),
            "names": {place: sorted(os.listdir(place)) for place in places},
            "files": {str(f): (Path(f).read_bytes(), os.stat(f).st_mode) for f in files},
            "devices": {d: (os.stat(d).st_mode, os.stat(d).st_uid) for d in devices},
            "traces": [p for p in everywhere if os.path.lexists(os.path.join(p, self.mark))],
        }

    def watch(self) -> None:
        """Notes the process namespaces that come to be below this process."""
        own = namespace("self")
        while self.watching:
            self.namespaces |= {namespace(pid) for pid in descendants()} - {own, ""}
            time.sleep(0.01)

    def left(self) -> list[str]:
        """Processes that still run in one of those namespaces."""
        pids = [name for name in os.listdir("/proc") if name.isdigit()]
        return [pid for pid in pids if namespace(pid) in self.namespaces and runs(pid)]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv("QDMERGE_TEST_SECRET", SECRET)
    host = Host(tmp_path, f"trace-{os.getpid()}-{time.monotonic_ns()}")
    servers = [socket.create_server(("127.0.0.1", 0))]
    host.port = servers[0].getsockname()[1]
    for name in (f"\0{host.mark}", str(tmp_path / "s")):
        servers.append(socket.socket(socket.AF_UNIX))
        servers[-1].bind(name)
        servers[-1].listen()
    watcher = threading.Thread(target=host.watch)
    before = host.look()
    watcher.start()
    yield host
    host.watching = False
    watcher.join()
    deadline = time.monotonic() + 60
    while host.left() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert host.left() == []
    assert host.namespaces
    assert host.look() == before
    for server in servers:
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody came
            server.accept()
        server.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_in_a_batch(name: str, sandbox: Sandbox, host: Host) -> None:
    item = {"entry": "f", "tests": [{"args": [], "expected": SECRET}]}
    hostile = f"{host.attack(name)}\ndef f():\n    return loot"
    good = f"def f():\n    return {SECRET!r}"
    task = PythonTask(sandbox, seconds=1)
    assert task.score([item] * 3, [good, hostile, good]).tolist() == [1, 0, 1]


ROW = {"description": "Tell the secret.", "evaluation": {"match": SECRET}}


@pytest.mark.parametrize("name", ATTACKS)
def test_in_a_session(name: str, sandbox: Sandbox, host: Host) -> None:
    task = AgentBenchOSTask(sandbox, seconds=1, cpu_seconds=1, rounds=3)
    items = [task.read(ROW, 1) | {"id": "hostile"}, task.read(ROW, 2) | {"id": "honest"}]
    script = f"python3 - <<'EOF'\n{host.attack(name)}\nprint(loot)\nEOF"
    turns: dict[str, list[str]] = {
        "hostile": [f"Think: x\n\nAct: bash\n\n```bash\n{script}\n```"],
        "honest": ["Act: bash\n```bash\necho ready\n```", f"Act: answer({SECRET})"],
    }

    def generate(prompts: Any) -> list[str]:
        answers = []
        for messages in prompts:
            last = messages[-1]["content"]
            who = "honest" if len(prompts) == 2 and messages is prompts[1] else "hostile"
            if who == "hostile" and "ready" in last:
                who = "honest"
            rest = turns[who]
            answers.append(rest.pop(0) if rest else f"Act: answer({task.output_of(last)})")
        return answers

    hostile, honest = task.play(items, generate)
    assert hostile.score == 0, hostile.messages
    assert honest.score == 1, honest.messages
