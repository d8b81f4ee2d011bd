"""The two roots of a session, made and changed by its supervisor.

Given to the interpreter as text, before the supervisor's. Its own root is the host's programs,
read-only. Commands have a root below it, ``SYSTEM``, which overlays them; checks, at the end, have
that root with the host's programs laid over it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import sys
import time
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
SYSTEM, LAYERS, TOOLS = "/system", "/layers", "/tools"
NEW_MOUNTS = 0x20000


def mount(
    source: str | None, target: str, flags: int, options: str = "", kind: str | None = None
) -> None:
    """Mount, or change a mount. OSError if it fails."""
    names = [name.encode() if name else None for name in (source, target, kind, options)]
    if LIBC.mount(*names[:3], flags, names[3]):
        raise OSError(ctypes.get_errno(), f"mount {target}: {os.strerror(ctypes.get_errno())}")


def lay_out(disk: int) -> None:
    """Make the system: programs that can be written to, a bound on what is written, and the host's
    inodes out of root's reach.
    """
    for path in (SYSTEM, TOOLS):
        os.chmod(path, 0o755)
    mount(None, "/", REMOUNT | NOSUID | NODEV, f"size={disk},nr_inodes={disk >> 11}")
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "usr", "var/lib/dpkg"):
        path = f"/{name}"
        if os.path.islink(path):
            os.symlink(os.readlink(path), SYSTEM + path)
        elif os.path.isdir(path):
            layer = f"{LAYERS}/{name.replace('/', '-')}"
            for folder in (f"{layer}/new", f"{layer}/work", SYSTEM + path):
                os.makedirs(folder, 0o755, exist_ok=True)
            options = f"lowerdir={path},upperdir={layer}/new,workdir={layer}/work,userxattr"
            mount("overlay", SYSTEM + path, NOSUID | NODEV, options, "overlay")
    for path in ("/python", "/etc/alternatives", "/etc/ld.so.cache"):
        if os.path.exists(path):
            os.makedirs(os.path.dirname(SYSTEM + path), 0o755, exist_ok=True)
            if os.path.isdir(path):
                os.mkdir(SYSTEM + path, 0o755)
            else:
                os.close(os.open(SYSTEM + path, os.O_CREAT, 0o644))
            mount(path, SYSTEM + path, BIND)
    mount(None, f"{SYSTEM}/dev", REMOUNT | NOSUID | NODEV, "size=4m,nr_inodes=1024,mode=755")
    # The devices are the host's own, and much of /proc is about the kernel: both obey root, so
    # they are read-only (which does not keep data from /dev/null, or from a process's own files).
    for entry in os.scandir(f"{SYSTEM}/dev"):
        if not entry.is_symlink() and not entry.is_dir():
            mount(None, entry.path, REMOUNT | BIND | RDONLY | NOSUID | NOEXEC)
    for entry in os.scandir(f"{SYSTEM}/proc"):
        if entry.name.isdigit() or entry.is_symlink():
            continue
        if entry.is_dir() or entry.stat().st_mode & 0o222:
            mount(entry.path, entry.path, BIND)
            mount(None, entry.path, REMOUNT | BIND | RDONLY | NOSUID | NOEXEC)
    mount(SYSTEM, SYSTEM, BIND | REC)  # so that its root is a mount, as elsewhere


def state_of_files() -> str:
    """Return a digest of all that has been written to the system."""
    import hashlib  # takes a while, and few sessions need it

    digest, device = hashlib.sha256(), os.stat("/").st_dev
    for top in (*(f"{LAYERS}/{name}/new" for name in sorted(os.listdir(LAYERS))), SYSTEM):
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(
                name for name in folders if os.lstat(f"{folder}/{name}").st_dev == device
            )
            for name in [*folders, *sorted(files)]:
                path = f"{folder}/{name}"
                found = os.lstat(path)
                parts: list[Any] = [path, found.st_mode, found.st_uid, found.st_gid]
                if stat.S_ISLNK(found.st_mode):
                    parts.append(os.readlink(path))
                if stat.S_ISREG(found.st_mode):
                    with open(path, "rb") as file:
                        parts.append(hashlib.sha256(file.read()).hexdigest())
                digest.update(repr(parts).encode())
    return digest.hexdigest()


def place(tools: dict[str, str], prefix: str) -> None:
    """Write the programs that checks find first, if they are not there: stand-ins, and links to
    what the links of the host's programs come to, as these may lead through the system.
    """
    if os.path.exists(f"{TOOLS}/check"):
        return
    os.mkdir(f"{TOOLS}/check", 0o755)
    for name, text in tools.items():
        path = f"{TOOLS}/check/{name}"
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o755)
    for path, real in programs().items():
        if path != real and os.path.isfile(real):
            with contextlib.suppress(FileExistsError):
                os.symlink(prefix + real, f"{TOOLS}/check/{os.path.basename(path)}")


def programs() -> dict[str, str]:
    """Return the paths of all the host's programs, each with the file that it comes to."""
    folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return {
        entry.path: os.path.realpath(entry.path) if entry.is_symlink() else entry.path
        for folder in folders
        if os.path.isdir(folder) and not os.path.islink(folder)
        for entry in os.scandir(folder)
    }


def move_away(path: str) -> None:
    """Move a path of the system away, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.rename(path, f"{path}.{time.monotonic_ns()}")
        else:
            os.unlink(path)


def changed(path: str, original: str, host: int) -> bool:
    """Return whether a program of the system is another than the host's file. The time of change is
    the kernel's own: no process can set it back.
    """
    try:
        found, first = os.stat(path), os.stat(original, dir_fd=host)
        if not stat.S_ISREG(found.st_mode) or found.st_ctime_ns == first.st_ctime_ns:
            return False
        with (
            open(path, "rb") as one,
            open(os.open(original, os.O_RDONLY, dir_fd=host), "rb") as two,
        ):
            return one.read() != two.read()
    except OSError:
        return False


class Cover:
    """The system as checks see it, for this process and all it starts. Made before the system is
    entered (:func:`enter`), as what fails there is the sandbox's fault.
    """

    def __init__(self, orders: dict[str, Any]) -> None:
        if LIBC.unshare(NEW_MOUNTS):
            raise OSError(ctypes.get_errno(), "unshare")
        mount(None, "/", PRIVATE | REC)
        shown = SYSTEM + orders["prefix"]
        mount(TOOLS, shown, BIND | REC)
        mount(None, shown, REMOUNT | BIND | RDONLY | NOSUID)
        self.orders = orders
        self.links: dict[str, str] = {}
        self.folders: dict[str, int] = {}
        for path in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", *orders["covered"]):
            if os.path.islink(path):
                self.links[path] = os.readlink(path)
            elif os.path.isdir(path):
                self.folders[path] = os.open(path, os.O_PATH)
        self.programs, self.host = programs(), os.open("/", os.O_PATH)

    def lay(self) -> None:
        """Lay the host's files over the system's. OSError where what is there does not allow it."""
        for path in self.orders["removed"]:
            with contextlib.suppress(OSError):  # a mount stays
                move_away(path)
        for path in self.orders["renewed"]:
            move_away(path)
        furnish([file for file in self.orders["files"] if file[0] in self.orders["renewed"]], "")
        for path, target in self.links.items():
            if not os.path.islink(path) or os.readlink(path) != target:
                move_away(path)
                os.symlink(target, path)
        for path, source in self.folders.items():
            if not os.path.isdir(path):
                move_away(path)
                os.makedirs(path)
            mount(f"/proc/self/fd/{source}", path, BIND)
        for path, original in self.programs.items():
            if changed(path, original.lstrip("/"), self.host):
                mount(f"/proc/self/fd/{self.host}{original}", path, BIND)
        for end in (self.host, *self.folders.values()):
            os.close(end)


def enter(root: str) -> None:
    """Make a folder the root, where nothing is imported any more: modules there are the model's."""
    sys.meta_path.clear()
    os.chroot(root)
    os.chdir("/")


def furnish(files: list[list[Any]], root: str) -> None:
    """Write ``[path, mode, text]``; no text stands for a folder, no mode for a link to it."""
    os.umask(0)
    for path, mode, text in files:
        target = root + path
        if not os.path.lexists(target):
            os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
            if text is None:
                os.mkdir(target)
            elif mode is None:
                os.symlink(text, target)
            else:
                with open(target, "wb") as file:
                    file.write(text.encode("utf-8", "surrogateescape"))
            if mode is not None:
                os.chmod(target, mode)
    os.umask(0o022)
