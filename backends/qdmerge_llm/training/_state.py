"""The folder of an unfinished training: whose it is, and one process at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from qdmerge.errors import ConfigError, RunError
from qdmerge_llm.training._config import completed

RECORD = "qdmerge.json"
"""What an adapter was made from and how, beside its weights."""

BEGUN = "made-from.json"
"""What an unfinished training was begun from."""

LOCK = "lock"


def is_made(out: Path, made_from: Mapping[str, Any]) -> bool:
    """Whether ``out`` holds an adapter made from the same by any versions.

    Raises:
        ConfigError: If it holds something else.
    """
    if not out.exists():
        return False
    if not _same(_read(out / RECORD), made_from):
        raise ConfigError(
            f"{out} is there but was not made from this base, these conversations and these "
            "settings. Remove it, or name another folder."
        )
    return True


@contextmanager
def unfinished(out: Path, made_from: Mapping[str, Any]) -> Iterator[tuple[Path, list[Any]]]:
    """The folder of the unfinished training of ``out``, kept from other processes.

    It is empty unless it was begun from the same base, data and settings. Other versions go on
    with it: hours of training are worth more than knowing that one version did it all.

    Yields:
        The folder, and the versions that others were when they worked on it, oldest first.

    Raises:
        ConfigError: If the folder is something else's, or cannot be written.
        RunError: If another process is training there.
    """
    folder = out.with_name(f"{out.name}.training")
    begun = folder / BEGUN
    if folder.exists() and not begun.is_file() and _names(folder) - {LOCK}:
        raise ConfigError(
            f"{folder} is where an unfinished training would lie, and holds something else. Move "
            "it away, or name another folder for the expert."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK, timeout=0).acquire()
    except filelock.Timeout as error:
        raise RunError(f"another process is training {out}; wait until it has ended") from error
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror or error}") from error
    with lock:
        yield folder, _begin(folder, begun, made_from)


def _begin(folder: Path, begun: Path, made_from: Mapping[str, Any]) -> list[Any]:
    """Empty the folder of another training, note what this one is made from."""
    found = _read(begun)
    earlier: list[Any] = []
    if _same(found, made_from):
        earlier = found.get("earlier_versions", [])
        if found["versions"] != made_from["versions"]:
            earlier.append(found["versions"])
    else:
        for name in _names(folder) - {LOCK, BEGUN}:  # BEGUN says whose the rest is: it goes last
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    part = folder / f"{BEGUN}.part"
    part.write_text(json.dumps({**made_from, "earlier_versions": earlier}))
    part.replace(begun)
    return earlier


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else {str(folder)}


def _read(path: Path) -> dict[str, Any]:
    """A record; {} where there is none that can be read."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _same(found: Mapping[str, Any], made_from: Mapping[str, Any]) -> bool:
    """Whether a record tells of the same base, data and settings."""
    try:
        return (
            found["data"]["sha256"] == made_from["data"]["sha256"]
            and found["base"] == made_from["base"]
            and completed(found["settings"]) == made_from["settings"]
        )
    except (KeyError, TypeError, ValueError):
        return False
