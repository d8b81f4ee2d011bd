"""The cache of zoos: built once, whole or not at all, checked on every use."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import filelock

from qdmerge.cache import cache_dir
from qdmerge.errors import RunError

from ._build import Progress, build
from ._recipe import Recipe

MANIFEST = "manifest.json"
"""The last file written: the SHA-256 of every other file."""


def zoo(
    seed: int = 0,
    cache: Path | str | None = None,
    progress: Progress | None = None,
    recipe: Recipe | None = None,
) -> Path:
    """Return the folder of the tiny base, its three experts and their data, built if necessary.

    Args:
        seed: Seed of the default recipe.
        cache: Where zoos are kept; default ``$QDMERGE_CACHE`` or the platform's cache folder.
        progress: Called as ``progress(stage, done, total)`` while building.
        recipe: Another recipe, with a seed of its own.

    Returns:
        A folder with ``base/``, ``coding/``, ``db/``, ``os/`` (each loads with transformers),
        ``data/*.jsonl`` and ``recipe.json``.

    Raises:
        RunError: If the cache cannot be written or training fails.
    """
    recipe = recipe or Recipe(seed=seed)
    folder = Path(cache) if cache else cache_dir()
    entry = folder / f"llm-tiny-{recipe.key}"
    if intact(entry):
        return entry
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{entry}.lock"):
            if not intact(entry):
                _replace(entry, recipe, progress or (lambda stage, done, total: None))
    except OSError as error:
        raise RunError(
            f"The tiny language models cannot be kept in {folder} ({error}). "
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


def _replace(entry: Path, recipe: Recipe, progress: Progress) -> None:
    """Build beside ``entry`` and rename, so that nobody ever sees half a zoo."""
    partial = entry.with_name(f"{entry.name}.partial")
    _remove(partial)  # of a builder that was killed
    try:
        partial.mkdir()
        build(recipe, partial, progress)
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
        if path.name != MANIFEST
    }
