"""Where qdmerge keeps what it can rebuild: factorizations and generated checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import platformdirs

from qdmerge.errors import RunError

MANIFEST = "manifest.json"
"""The last file of an entry that is written: the SHA-256 of every other file."""


def cache_dir() -> Path:
    """Return the cache folder: ``$QDMERGE_CACHE`` if set, else the platform's own place.

    The folder need not exist yet; everything in it may be deleted at any time.
    """
    chosen = os.environ.get("QDMERGE_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("qdmerge"))


def built_once(entry: Path, build: Callable[[Path], None], what: str) -> Path:
    """Return the folder ``entry`` of a cache, built if it is not there or not intact.

    Builders at once, in other processes too, wait for the first one. Nobody ever sees half an
    entry: it is built beside its place and renamed when it is whole.

    Args:
        entry: The folder. Its name stands for everything that decides its content.
        build: Fills the empty folder it is given, which is renamed afterwards.
        what: What is built, in the plural, for messages: "The tiny language models".

    Raises:
        RunError: If the cache cannot be written.
    """
    if intact(entry):
        return entry
    import filelock

    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{entry}.lock"):
            if not intact(entry):
                _replace(entry, build)
    except OSError as error:
        raise RunError(
            f"{what} cannot be kept in {entry.parent} ({error}). "
            "Name a writable folder with space in $QDMERGE_CACHE."
        ) from error
    return entry


def intact(entry: Path) -> bool:
    """Tell whether ``entry`` holds exactly what its manifest says."""
    try:
        manifest = json.loads((entry / MANIFEST).read_text())
        return manifest == _fingerprints(entry)
    except (OSError, ValueError):
        return False


def _replace(entry: Path, build: Callable[[Path], None]) -> None:
    """Build beside ``entry`` and rename, so that nobody ever sees half of it."""
    partial = entry.with_name(f"{entry.name}.partial")
    _remove(partial)  # of a builder that was killed
    try:
        partial.mkdir()
        build(partial)
        (partial / MANIFEST).write_text(json.dumps(_fingerprints(partial), indent=2) + "\n")
        _remove(entry)
        partial.rename(entry)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    """Delete the file or folder at ``path``, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fingerprints(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file but the manifest, by its path inside ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path != folder / MANIFEST
    }
