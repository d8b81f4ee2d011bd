"""Where models and images come from: what qdmerge knows, or a part of the tiny zoo."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from qdmerge.cache import cache_dir
from qdmerge.registry import nearest
from qdmerge.sources import fetch, is_hub_id, missing

_TINY = "tiny://"
_TINY_TASKS = ("camouflage", "polyp", "skeleton", "leaf")


def is_tiny(source: str) -> bool:
    """Whether a source is a part of the tiny zoo, which is built on first use."""
    return source.startswith(_TINY)


def source_problem(source: str, data: bool) -> str | None:
    """What is wrong with the source of a model or of images, or None; only looks."""
    if is_tiny(source):
        names = [f"data/{task}" for task in _TINY_TASKS] if data else ["base", *_TINY_TASKS]
        name = source.removeprefix(_TINY)
        if name not in names:
            return f"no '{source}'{nearest(name, names)} Known: {', '.join(names)}."
        return None
    path = Path(source).expanduser()
    if path.exists() or (not data and is_hub_id(source)):
        return None
    return missing("directory", source)


def resolve(source: str, tiny_seed: int) -> Path:
    """The local path of a source; builds the tiny zoo or downloads when needed.

    Raises:
        CheckpointError: The Hub does not give the model.
    """
    if is_tiny(source):
        return _zoo(tiny_seed, cache_dir()) / source.removeprefix(_TINY)
    return fetch(source)


@lru_cache
def _zoo(seed: int, cache: Path) -> Path:
    """The zoo, checked once in a process: that reads all of its files."""
    from qdmerge_segmentation.tiny import zoo

    return zoo(seed=seed, cache=cache)
