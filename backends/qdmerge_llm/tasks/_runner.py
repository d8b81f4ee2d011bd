"""Runs inside the sandbox: a child for each program, its output on a pipe of its own.

Started as a script with isolated Python (standard library only); the host reads one JSON line per
item. Expected values never come here, so nothing an answer does can look right without being right.
An answer can spoil its own output only: the stream to the host is closed in the children, and the
parent is not dumpable, which closes ``/proc/PID/fd`` and ``/proc/PID/mem`` to them. If a child
kills or stops the parent, the host notices and runs the remaining items in another sandbox; so it
does when something of an item cannot be removed, and the parent ends after the item's line.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import stat
import sys
import time
from typing import Any

MAX_OUTPUT = 1 << 16
"""Bytes of one item's output, unless the batch or its payload's ``size`` says otherwise."""
LINE = 8
"""Most bytes of an item's line for each byte of its output, which JSON writes as up to 6."""
FAILED: dict[str, Any] = {"ended": False, "status": 1, "output": ""}


def python(payload: dict[str, Any]) -> str:
    """Define the function and call it on each ``args``: ``[[ok, value], ...]`` as JSON."""
    names: dict[str, Any] = {"__name__": "answer"}
    exec(compile(payload["code"], "answer", "exec"), names)
    function = names[payload["entry"]]
    results = []
    for args in payload["args"]:
        try:
            results.append(f"[true, {json.dumps(function(*args))}]")
        except BaseException:
            results.append("[false, null]")
    return f"[{', '.join(results)}]"


def shell(payload: dict[str, Any]) -> None:
    """Become the shell that runs the command among the item's files; does not return."""
    for name, content in payload["files"].items():
        if os.path.dirname(name):
            os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "w", encoding="utf-8", newline="") as file:
            file.write(content)
    os.environ.pop("LD_LIBRARY_PATH", None)
    shell = "bash" if any(os.access(p + "/bash", os.X_OK) for p in ("/bin", "/usr/bin")) else "sh"
    options = ["--noprofile", "--norc"] if shell == "bash" else []
    os.execvp(shell, [shell, *options, "-c", payload["command"]])


KINDS = {"python": python, "shell": shell}
WARM_UP: dict[str, dict[str, Any]] = {
    "python": {"code": "def f(x):\n    return [x]", "entry": "f", "args": [[1]]}
}


def _child(kind: str, payload: dict[str, Any], result: int, cpu: int) -> None:
    """Confine the forked child and run the item; never returns."""
    try:
        os.setsid()
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(result, 3)
        os.dup2(null, 0)
        os.dup2(null, 2)
        os.dup2(3 if kind == "shell" else null, 1)
        os.closerange(3 if kind == "shell" else 4, 256)
        text = KINDS[kind](payload)
        data = (text or "").encode("utf-8", "surrogatepass")
        while data:
            data = data[os.write(3, data) :]
    except BaseException:
        os._exit(1)
    os._exit(0)


def _collect(pid: int, pipe: int, wall: float, size: int) -> tuple[bytes, bool]:
    """Return what the child wrote, and whether it ended within time and size."""
    deadline = time.monotonic() + wall
    output, closed, gone = b"", False, False
    pause = 0.0001
    while len(output) <= size and time.monotonic() < deadline:
        if closed:  # many programs close their output a moment before they end
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        elif select.select([pipe], [], [], 0.02)[0]:
            part = os.read(pipe, 65536)
            output += part
            closed = not part
            if part:
                continue
        elif gone:  # what it left behind in the background is silent
            break
        gone = gone or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if gone and closed:
            break
    return output, gone and len(output) <= size


def _clear(folder: str) -> None:
    """Empty a folder, whatever the depth, names, types and permissions: folders that are in others
    are moved up first, so no path gets long. What cannot be removed stays.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    names, mark, moved = os.listdir(top), os.urandom(8).hex(), 0
    while names:
        name, inner = names.pop(), -1
        try:
            if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=top)
                continue
            os.chmod(name, 0o700, dir_fd=top)
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
            with os.scandir(inner) as entries:
                for entry in list(entries):
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.name, dir_fd=inner)
                        continue
                    os.chmod(entry.name, 0o700, dir_fd=inner)
                    names.append(f"{mark}-{moved}")
                    moved += 1
                    os.rename(entry.name, names[-1], src_dir_fd=inner, dst_dir_fd=top)
            os.rmdir(name, dir_fd=top)
        except OSError:
            pass
        finally:
            if inner >= 0:
                os.close(inner)
    os.close(top)


def _free() -> int:
    """Return the free bytes of the file system that items write to."""
    found = os.statvfs(".")
    return found.f_bfree * found.f_frsize


def _clean(free: int) -> bool:
    """Return whether nothing is left of an item: no process, no file, no less than ``free`` bytes.
    Process 1 may need a moment for what was killed.
    """
    for _ in range(100):
        try:
            os.kill(-1, 0)
        except ProcessLookupError:
            return not os.listdir(".") and _free() >= free
        time.sleep(0.01)
    return False


def _item(
    kind: str, payload: dict[str, Any], wall: float, cpu: int, size: int, alone: bool
) -> dict[str, Any]:
    free = _free()
    os.mkdir("item")
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir("item")
        finally:
            _child(kind, payload, write_end, cpu)
    os.close(write_end)
    output, ended = _collect(pid, read_end, wall, size)
    os.close(read_end)
    # Everything else in this process namespace belongs to the item. Outside of one (process 2 is
    # the first command of a sandbox, and never an ordinary process of a host) only its own session
    # may be ended.
    alone = alone and os.getpid() == 2
    try:
        if alone:
            os.kill(-1, signal.SIGKILL)
        else:
            os.killpg(pid, signal.SIGKILL)
    except OSError:
        pass
    _, status = os.waitpid(pid, 0)
    _clear(".")
    died = os.WIFSIGNALED(status) and ended
    return {
        "ended": ended and not died,
        "status": os.waitstatus_to_exitcode(status),
        "output": output[:size].decode("utf-8", "replace") if ended else "",
        "last": alone and not _clean(free),
    }


def _here(kind: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Run an item that bounds itself, without a child of its own."""
    try:
        return {"ended": True, "status": 0, "output": KINDS[kind](payload)}
    except Exception:
        return FAILED


def main() -> None:
    """Read the batch from stdin and write one line per item to what was stdout."""
    stream = os.dup(1)  # not inherited by programs; closed in the children
    sys.path.pop(0)  # the folder of this script, which programs can write to
    batch = json.loads(sys.stdin.buffer.read())
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    import resource  # noqa: F401  imported once here, not in every child

    if batch["program"] is not None:  # a kind of its own: a module's text
        names: dict[str, Any] = {"__name__": batch["kind"]}
        exec(compile(batch["program"], batch["kind"], "exec"), names)
        KINDS[batch["kind"]] = names["run"]
        WARM_UP[batch["kind"]] = names["WARM_UP"]
    # What the parent has done once need not be set up again in every child.
    if batch["kind"] in WARM_UP:
        KINDS[batch["kind"]](WARM_UP[batch["kind"]])
    os.write(stream, b"ready\n")
    gc.freeze()
    if batch["child"]:
        _clear(".")
    for payload in batch["items"]:
        size = payload.get("size", batch["size"])
        if batch["child"]:
            line = _item(batch["kind"], payload, batch["wall"], batch["cpu"], size, batch["alone"])
        else:
            line = _here(batch["kind"], payload)
        data = json.dumps(line).encode() + b"\n"
        if len(data) > LINE * size:
            data = json.dumps(FAILED).encode() + b"\n"
        while data:
            data = data[os.write(stream, data) :]
        if line.get("last"):
            break


if __name__ == "__main__":
    main()
