"""What an answer leaves behind or writes, and the score of the right answers around it."""

from __future__ import annotations

import pytest

from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import PythonTask

LEFT = {
    "deep folders": """
name = "d" * 200
for _ in range(3000):
    os.mkdir(name)
    os.chdir(name)
open("f", "w").close()
""",
    "folders without rights": """
os.makedirs("a/b/c")
for name in ("a/b/c", "a/b", "a"):
    os.chmod(name, 0)
os.mkdir("../item2", 0)
""",
    "odd names": """
for name in (b"\\xff\\xfe", b"\\n", b"-rf *", b"~", b"\\xe2\\x80\\xae", b"x" * 255):
    os.makedirs(os.path.join(b"../", name, name))
    os.symlink(b"/proc/self", os.path.join(b"../", name, b"link"))
""",
    "names of the runner": """
for name in ("item", "item/item", "runner.py", "json.py"):
    os.makedirs(f"../{name}", exist_ok=True)
""",
    "pipes, sockets and links": """
os.mkfifo("fifo")
s = socket.socket(socket.AF_UNIX)
s.bind("../socket")
os.symlink("..", "up")
os.symlink("/", "../root")
os.symlink("loop", "loop")
os.mkdir("h")
open("h/1", "w").close()
os.link("h/1", "../h2")
""",
    "a file that is open and deleted": """
if os.fork() == 0:
    os.setsid()
    f = open("../big", "wb")
    os.unlink("../big")
    for _ in range(60):
        f.write(bytes(1 << 20))
    f.flush()
    time.sleep(600)
time.sleep(0.5)
""",
    "many processes": """
for _ in range(40):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
""",
    "many files": """
os.mkdir("../many")
for number in range(20000):
    open(f"../many/{number}", "w").close()
""",
    "the runner's limits": """
import ctypes, resource
libc, pid = ctypes.CDLL(None), os.getppid()
for kind in range(16):
    libc.prlimit(pid, kind, (ctypes.c_ulong * 2)(1, 1), None)
libc.sched_setscheduler(pid, 5, ctypes.byref(ctypes.c_int(0)))
for which, who in ((0, pid), (1, 0), (2, os.getuid())):
    libc.setpriority(which, who, 19)
""",
    "the largest output": "SAY = '\\x00' * 60000",
    "too large an output": "SAY = '\\x00' * 10**7",
    "a flood": "[os.write(f, b'x' * 65536) for f in (1, 2, 3) for _ in range(100)]",
}
HEAD = "import os, socket, sys, time\nSAY = 0\n"
TAIL = "\ndef f():\n    return SAY"


@pytest.mark.parametrize("name", LEFT)
def test_an_item_harms_none_but_itself(name: str, sandbox: Sandbox) -> None:
    """Some alone, and so many that their outputs together would fill a bound of the batch."""
    item = {"entry": "f", "tests": [{"args": [], "expected": 7}]}
    needs_all = """
import os, resource
assert sorted(os.listdir("..")) == ["item"]
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256, os.nice(0) == 0
assert os.sched_getscheduler(os.getppid()) == os.SCHED_OTHER
with open("big", "wb") as file:
    file.write(bytes(15 << 20))
"""
    good = f"{needs_all}\ndef f():\n    return 7"
    hostile = HEAD + LEFT[name] + TAIL
    codes = [good, hostile, good, hostile + " ", hostile + "  ", good]
    task = PythonTask(sandbox, seconds=3, cpu_seconds=2)
    assert task.score([item] * len(codes), codes).tolist() == [1, 0, 1, 0, 0, 1]


def test_what_cannot_be_removed_ends_the_runner_not_the_next_item(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qdmerge_llm.tasks import _executed

    text = _executed._RUNNER
    assert "def _clear(" in text
    lame = text.replace("_clear(folder: str) -> None:", "_clear(folder: str) -> None:\n    return")
    monkeypatch.setattr(_executed, "_RUNNER", lame.replace('os.listdir(".")', "os.listdir('item')"))
    starts = []
    monkeypatch.setattr(
        _executed, "_run", lambda *a, run=_executed._run: starts.append(1) or run(*a)
    )
    item = {"entry": "f", "tests": [{"args": [], "expected": 7}]}
    codes = ["def f():\n    open('left', 'w')\n    return 7", "def f():\n    return 7"]
    assert PythonTask(sandbox).score([item] * 2, codes).tolist() == [1, 1]
    assert len(starts) == 2
