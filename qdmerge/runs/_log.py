"""The event log of a run, and its solution vectors, kept once each by content hash."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from qdmerge.errors import RunError
from qdmerge.storage import parse_json, write_whole


def solution_id(x: np.ndarray) -> str:
    """Return the content hash of a ``(dim,)`` solution: 16 hex digits of its dtype and bytes."""
    digest = hashlib.sha256(x.dtype.str.encode())
    digest.update(np.ascontiguousarray(x).tobytes())
    return digest.hexdigest()[:16]


class SolutionStore:
    """A folder of solutions, ``ID.npy``, each kept once.

    Args:
        folder: The folder; made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, x: np.ndarray, flush: bool = True) -> str:
        """Write a ``(dim,)`` solution; return its id.

        Args:
            x: The solution.
            flush: Whether it is on the disk afterwards; not needed of one that a replay restores.

        Raises:
            RunError: It cannot be written (disk full, say).
        """
        identity = solution_id(x)
        path = self._folder / f"{identity}.npy"
        with suppress(RunError):  # one that is missing or damaged is written anew
            self.get(identity)
            return identity
        try:
            self._folder.mkdir(exist_ok=True)
            data = io.BytesIO()
            np.save(data, x)
            write_whole(path, data.getvalue(), flush)
        except OSError as error:
            raise RunError(
                f"cannot write {path}: {error.strerror or error}. Everything before is kept; "
                "make room, then resume the run"
            ) from error
        return identity

    def get(self, identity: str) -> np.ndarray:
        """Read the solution of an id.

        Raises:
            RunError: It is missing, or its content does not match its id.
        """
        path = self._folder / f"{identity}.npy"
        try:
            x: np.ndarray = np.load(path, allow_pickle=False)
        except Exception as error:  # numpy raises whatever a damaged header leads it to
            cause = " ".join(str(error).split())
            raise RunError(
                f"solution {path} cannot be read: {cause}; restore it from a backup"
            ) from error
        if solution_id(x) != identity:
            raise RunError(
                f"solution {path} is damaged: its content does not match its name; restore it from "
                "a backup"
            )
        return x


Event = dict[str, Any]
"""A line of the log: ``event`` (its kind), ``time`` in seconds, and facts of that kind."""


def _encode(event: Event) -> bytes:
    text = json.dumps(event, separators=(",", ":"), allow_nan=False).encode()
    return text[:-1] + _crc(text)


def _decode(line: bytes) -> Event:
    """Return the event of a line; raise ValueError if the line is damaged."""
    text = line[:-_CRC_BYTES] + b"}"
    if line[-_CRC_BYTES:] != _crc(text):
        raise ValueError("checksum does not match")
    event: Event = parse_json(text)
    return event


def _crc(text: bytes) -> bytes:
    """Return the end of an event's line, with the checksum of the bytes of its JSON."""
    return f',"crc":"{zlib.crc32(text):08x}"}}\n'.encode()


_CRC_BYTES = len(_crc(b""))


def _torn(line: bytes) -> bool:
    """Return whether a last line is the beginning of one: behind a whole event is nothing."""
    try:
        _, end = json.JSONDecoder().raw_decode(line.decode("latin-1"))
    except ValueError:
        return True
    except RecursionError:  # no event is nested like that
        return False
    return end == len(line)


def read_events(path: Path) -> list[Event]:
    """Read all events of a log, without a torn last line (the run was killed while writing it).

    Raises:
        RunError: The log cannot be read, or a complete line is damaged.
    """
    return [event for event, _ in _scan(path)]


def _scan(path: Path) -> Iterator[tuple[Event, int]]:
    """Yield the events and the position behind each."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read the log {path}: {error.strerror or error}") from error
    *lines, rest = content.split(b"\n")
    lines = [line + b"\n" for line in lines]
    if not _torn(rest):
        lines.append(rest)
    end = 0
    for number, line in enumerate(lines, start=1):
        end += len(line)
        try:
            event = _decode(line)
        except ValueError as error:
            raise RunError(
                f"{path}, line {number} of {len(lines)} is damaged ({error}). Restore the file "
                "from a backup, or cut it before that line to resume from there"
            ) from error
        yield event, end


_BEFORE_A_TELL = ("ask", "scores", "failed")  # flushed to the disk with the tell


class EventLog:
    """An event log that is appended to; each event is written before the next step. A torn last
    line of an existing file is cut off; RunError if the log is damaged or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.events: list[Event] = []
        """Events that the file held when it was opened."""
        end = 0
        if path.exists():
            for event, end in _scan(path):  # noqa: B007
                self.events.append(event)
        try:
            self._file = path.open("ab")
            self._file.truncate(end)
            self._file.seek(end)
        except OSError as error:
            raise RunError(f"cannot write the log {path}: {error.strerror}") from error

    @property
    def empty(self) -> bool:
        """Whether the log holds nothing."""
        return self._file.tell() == 0

    def append(self, kind: str, **fields: Any) -> Event:
        """Write an event of JSON-able facts; if it fails, nothing before it is lost.

        A killed process loses no event; a power cut only what leads to a tell that is not there.
        """
        event = {"event": kind, "time": round(time.time(), 3), **fields}
        try:
            self._file.write(_encode(event))
            self._file.flush()
            if kind not in _BEFORE_A_TELL:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise RunError(
                f"cannot write the log {self._path}: {error.strerror}. Everything before is kept; "
                "make room, then resume the run"
            ) from error
        return event

    def close(self) -> None:
        """Close the file; never raises, since :meth:`append` raised what could not be written."""
        with suppress(OSError):
            self._file.close()
