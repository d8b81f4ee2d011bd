"""Interrupted trainings: the folder of an unfinished one, which only its own training may resume.

Backends train their models in a folder beside the model's place. The folder names what the model is
made from, so that a training that was killed is resumed, and state of another one never is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qdmerge.errors import ConfigError
from qdmerge.storage import locked, read_json_or_empty, write_json

BEGUN = "made-from.json"
"""What an unfinished training was begun from."""

LOCK = "lock"

Origin = Mapping[str, Any]
"""What a model is made from: data, settings and base as JSON can hold them, and ``versions``."""

_OF_VERSIONS = ("versions", "earlier_versions")


def same_origin(found: Origin, made_from: Origin) -> bool:
    """Return whether two origins are equal, the versions of libraries apart."""
    one, other = (
        {key: value for key, value in origin.items() if key not in _OF_VERSIONS}
        for origin in (found, made_from)
    )
    return one == other


@contextmanager
def unfinished(
    out: Path, made_from: Origin, same: Callable[[Origin, Origin], bool] = same_origin
) -> Iterator[tuple[Path, list[Any]]]:
    """Lock ``OUT.training``, the folder of an unfinished training, against other processes.

    The folder is emptied unless it was begun from the same. Other versions of the libraries resume
    it: hours of training are worth more than one version for all of it. The caller removes the
    folder when the model is at its place.

    Args:
        out: Where the finished model belongs.
        made_from: What it is made from.
        same: Compares what is recorded in the folder, as JSON, with ``made_from``.

    Yields:
        The folder, and the earlier versions that trained in it, oldest first.

    Raises:
        ConfigError: The folder holds something else, or cannot be written.
        RunError: Another process is training there.
    """
    folder = out.with_name(f"{out.name}.training")
    begun = folder / BEGUN
    if folder.exists() and not begun.is_file() and _names(folder) - {LOCK}:
        raise ConfigError(
            f"{folder} is the place of an unfinished training, but holds something else, or state "
            f"that this version cannot resume. Move it away, or name another place than {out.name}."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror or error}") from error
    with locked(folder / LOCK, f"another process is training {out}; wait until it has ended"):
        yield folder, _begin(folder, begun, made_from, same)


def _begin(
    folder: Path, begun: Path, made_from: Origin, same: Callable[[Origin, Origin], bool]
) -> list[Any]:
    """Empty the folder of another training, and record what this one is made from."""
    found = read_json_or_empty(begun)
    earlier: list[Any] = []
    if found and same(found, made_from):
        earlier = found.get("earlier_versions", [])
        if found["versions"] != made_from["versions"]:
            earlier.append(found["versions"])
    else:
        for name in _names(folder) - {LOCK, BEGUN}:  # BEGUN says whose the rest is: it goes last
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(begun, {**made_from, "earlier_versions": earlier})
    return earlier


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else {str(folder)}
