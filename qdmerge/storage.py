"""Files that appear whole or not at all, locks, and the cache of what can be rebuilt.

- :func:`write_whole`, :func:`write_json`, :func:`new_folder`, :func:`moved_into_place`: files and
  folders that nobody ever sees half of; :func:`clear_partial` removes what a kill left of them.
- :func:`read_json`, :func:`read_json_or_empty`: JSON objects; :func:`parse_json`,
  :func:`parse_yaml`: foreign text.
- :func:`locked`: one process at a time.
- :func:`cache_dir`, :func:`built_once`, :func:`written_once`, :func:`intact`: the cache;
  :func:`building_seconds`: what its entries cost.
- :func:`file_digest`, :func:`content_digest`: SHA-256 of files and of JSON-able content.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import platformdirs

from qdmerge.errors import QDMergeError, RunError

MANIFEST = "manifest.json"
"""The last file of a cache entry to be written: the SHA-256 of every other file."""

_PARTIAL = ".partial"


def write_whole(
    path: Path, content: str | bytes | Callable[[Path], object], flush: bool = True
) -> None:
    """Write a file that appears whole or not at all.

    It is written beside its place as ``NAME.part`` and renamed. Two
    processes must not write the same file at once; see :func:`locked`.

    Args:
        path: The file; one that exists is replaced.
        content: Text (written as UTF-8), bytes, or a function that writes the file it is given.
        flush: Whether it is on the disk afterwards; else a power cut may leave it damaged.

    Raises:
        OSError: The file cannot be written; one that existed is as it was.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        if callable(content):
            content(part)
        else:
            part.write_bytes(content.encode() if isinstance(content, str) else content)
        if flush:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON-able content, indented, as :func:`write_whole` does."""
    write_whole(path, json.dumps(content, indent=2) + "\n")


def parse_json(text: str | bytes) -> Any:
    """Return what foreign JSON text holds.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or holds half of a surrogate pair, which
            no file can keep.
    """
    return _parse(json.loads, text if isinstance(text, str) else text.decode())


def parse_yaml(text: str) -> Any:
    """Return what foreign YAML text holds.

    Raises:
        ValueError: It is not YAML, in one line, or its aliases stand for too much; or see
            :func:`parse_json`.
    """
    import yaml

    try:
        found = _parse(yaml.safe_load, text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except (AttributeError, LookupError, TypeError) as error:  # of a tag and a value without it
        raise ValueError(f"a tag does not fit its value ({error!r})") from error
    if "&" in text and not _size(found, {}) < _MOST:
        raise ValueError("its aliases stand for too much")
    return found


_MOST = 1_000_000  # values


def _size(value: Any, known: dict[int, float]) -> float:
    """Return how many values there are once aliases are written out; infinity in a circle."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(one, known) for one in inner)
    return known[id(value)]


def _parse(parse: Callable[[str], Any], text: str) -> Any:
    try:
        found = parse(text)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False, default=str).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair") from None
    return found


def read_json(path: Path, error: type[QDMergeError] = RunError) -> dict[str, Any]:
    """Return the JSON object in a file.

    Args:
        path: The file.
        error: What to raise, with a message that names the file and what is wrong with it.

    Raises:
        QDMergeError: ``error``: the file cannot be read, or holds anything else.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror})") from None
    except ValueError as cause:
        raise error(f"{path}: not valid JSON ({cause})") from None
    if not isinstance(content, dict):
        raise error(f"{path}: expected a JSON object")
    return content


def read_json_or_empty(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; ``{}`` if the file is missing or holds anything else."""
    try:
        return read_json(path)
    except RunError:
        return {}


@contextlib.contextmanager
def new_folder(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder to fill, which becomes ``path`` once it is complete.

    If the body raises, the folder vanishes.

    Args:
        path: Where the folder appears: nothing may exist there, or only an empty folder.
        partial: Where it is filled, on the same disk; what is left there is deleted first. The
            default is a name beside ``path`` that no other process uses. Under a lock, choose a
            fixed name, so that the next process clears what a killed one left.

    Raises:
        OSError: The folder cannot be written, or ``path`` is taken.
    """
    partial = partial or path.parent / f".{path.name}-{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        partial.mkdir()
        yield partial
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            _remove(partial)


@contextlib.contextmanager
def moved_into_place(path: Path) -> Iterator[Path]:
    """Yield a path to write a file or a folder to, which is moved to ``path`` afterwards.

    Args:
        path: Where it appears: nothing may exist there, or only an empty folder.

    Raises:
        OSError: It cannot be written, or nothing was.
    """
    partial = path.with_name(f".{path.name}-{os.getpid()}{_PARTIAL}")
    try:
        _remove(partial)
        partial.mkdir(parents=True)
        yield partial / path.name
        if not (partial / path.name).exists():
            raise FileNotFoundError(errno.ENOENT, "nothing was written there", path)
        (partial / path.name).replace(path)
    finally:
        with contextlib.suppress(OSError):
            _remove(partial)


def clear_partial(folder: Path) -> None:
    """Remove what killed processes left in a folder of :func:`write_whole` and
    :func:`moved_into_place`; the caller keeps processes out that write files there.
    """
    import psutil

    for part in folder.glob("*.part"):
        part.unlink(missing_ok=True)
    for partial in folder.glob(f".*-*{_PARTIAL}"):
        owner = partial.name.removesuffix(_PARTIAL).rpartition("-")[2]
        if not (owner.isdecimal() and psutil.pid_exists(int(owner))):
            _remove(partial)


@contextlib.contextmanager
def locked(file: Path, busy: str) -> Iterator[None]:
    """Keep other processes out while the body runs.

    Args:
        file: The lock's file, in a folder that exists.
        busy: Message of the error if another process holds the lock.

    Raises:
        RunError: Another process holds the lock, or its file cannot be written.
    """
    import filelock

    lock = filelock.FileLock(file, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise RunError(busy) from error
    except OSError as error:
        raise RunError(f"cannot write {file.parent}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def cache_dir() -> Path:
    """Return the cache folder: ``$QDMERGE_CACHE`` if set, else the platform's own place.

    The folder need not exist yet; everything in it may be deleted at any time.
    """
    chosen = os.environ.get("QDMERGE_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("qdmerge"))


def built_once(entry: Path, build: Callable[[Path], None], what: str) -> Path:
    """Return the folder ``entry`` of a cache, built if it is missing or not intact.

    Other processes that need the same entry wait for the first builder. The folder is built beside
    its place and renamed when it is complete.

    Args:
        entry: The folder. Its name stands for everything that decides its content.
        build: Fills the empty folder it is given, which is renamed afterwards.
        what: What is built, in the plural, for messages: "The tiny language models".

    Raises:
        RunError: If the cache cannot be written.
    """

    def make() -> None:
        with new_folder(entry, entry.with_name(f"{entry.name}.partial")) as partial:
            build(partial)
            fingerprints = json.dumps(_fingerprints(partial), indent=2) + "\n"
            (partial / MANIFEST).write_text(fingerprints)
            _remove(entry)

    return _made_once(entry, intact, make, what)


def written_once(
    entry: Path, write: Callable[[Path], object], whole: Callable[[Path], bool], what: str
) -> Path:
    """Return the file ``entry`` of a cache, written if it is missing or damaged.

    Like :func:`built_once` for entries of one file that is too large to hash on every use.

    Args:
        entry: The file. Its name stands for everything that decides its content.
        write: Writes the file it is given, which is renamed afterwards.
        whole: Whether the file is as it should be.
        what: What is written, in the plural, for messages.

    Raises:
        RunError: If the cache cannot be written.
    """
    return _made_once(entry, whole, lambda: write_whole(entry, write), what)


def _made_once(
    entry: Path, whole: Callable[[Path], bool], make: Callable[[], None], what: str
) -> Path:
    record = Path(f"{entry}.seconds")
    if not whole(entry):
        import filelock

        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{entry}.lock"):
                if not whole(entry):
                    began = time.perf_counter()
                    with building_seconds():  # entries that this one is built from are part of it
                        make()
                    record.write_text(f"{time.perf_counter() - began:.4f}\n")
        except OSError as error:
            raise RunError(
                f"{what} cannot be kept in {entry.parent} ({error}). "
                "Name a writable folder with space in $QDMERGE_CACHE."
            ) from error
    if (asked := _asked.get()) is not None:
        with contextlib.suppress(OSError, ValueError):  # of an entry that an earlier version built
            asked.append(float(record.read_text()))
    return entry


_asked: ContextVar[list[float] | None] = ContextVar("_asked", default=None)


@contextlib.contextmanager
def building_seconds() -> Iterator[list[float]]:
    """Collect how long each cache entry took to build that the body asks for, now or once."""
    found: list[float] = []
    token = _asked.set(found)
    try:
        yield found
    finally:
        _asked.reset(token)


def intact(entry: Path) -> bool:
    """Return whether the folder ``entry`` holds exactly what its manifest says."""
    try:
        return read_json(entry / MANIFEST) == _fingerprints(entry)
    except (OSError, RunError):
        return False


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    A file is hashed once in a process unless its size or modification time changes.
    """
    state = file.stat()
    return _cached_digest(file.resolve(), state.st_size, state.st_mtime_ns)


def content_digest(content: object, sort_keys: bool = False) -> str:
    """Return the SHA-256 of JSON-able content, in hex; of mappings in their order, or sorted."""
    return hashlib.sha256(json.dumps(content, sort_keys=sort_keys).encode()).hexdigest()


@functools.lru_cache(maxsize=4096)
def _cached_digest(file: Path, _size: int, _mtime_ns: int) -> str:
    return _digest(file)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fingerprints(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file but the manifest, by its path inside ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in files
        if path != folder / MANIFEST
    }


def _remove(path: Path) -> None:
    """Delete the file or folder at ``path``, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
