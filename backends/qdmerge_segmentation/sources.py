"""Where models and images come from: what qdmerge knows, or a part of a tiny zoo."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from qdmerge.checkpoints import fetch, is_hub_id, missing
from qdmerge.errors import nearest
from qdmerge.storage import cache_dir

MULTITASK = "tiny://all"
"""The tiny base fine-tuned on the images of all tasks; made apart from the zoo, on first use."""
_TINY = "tiny://"
_TINY_TASKS = ("camouflage", "polyp", "skeleton", "leaf", "crack", "focus")


class Tiny(NamedTuple):
    """Which tiny zoo ``tiny://`` refers to.

    Attributes:
        seed: Its seed.
        conflict: How much its experts contradict each other, 0 to 3.
        tasks: How many tasks it has, 4 or 6.
    """

    seed: int = 0
    conflict: int = 0
    tasks: Literal[4, 6] = 4


def is_tiny(source: str) -> bool:
    """Whether a source is a part of a tiny zoo, which is built on first use."""
    return source.startswith(_TINY)


def source_problem(source: str, data: bool, tiny: Tiny) -> str | None:
    """What is wrong with the source of a model or of images, or None; only looks."""
    if is_tiny(source):
        tasks = _TINY_TASKS[: tiny.tasks]
        names = [f"data/{task}" for task in tasks] if data else ["base", *tasks, "all"]
        name = source.removeprefix(_TINY)
        if name in names:
            return None
        if name.removeprefix("data/" if data else "") in _TINY_TASKS:
            return f"no '{source}' in a zoo of {tiny.tasks} tasks; set tiny_tasks to 6"
        return f"no '{source}'{nearest(name, names)} Known: {', '.join(names)}."
    path = Path(source).expanduser()
    if path.exists() or (not data and is_hub_id(source)):
        return None
    return missing("directory", source)


def resolve(source: str, tiny: Tiny) -> Path:
    """The local path of a source; builds the tiny zoo or downloads when needed.

    Raises:
        CheckpointError: The Hub does not give the model.
    """
    if source == MULTITASK:
        return _multitask(tiny, cache_dir())
    if is_tiny(source):
        return _zoo(tiny, cache_dir()) / source.removeprefix(_TINY)
    return fetch(source)


@lru_cache
def _zoo(tiny: Tiny, cache: Path) -> Path:
    """The zoo, checked once in a process: that reads all of its files."""
    from qdmerge_zoo.segmentation import Recipe, zoo

    return zoo(recipe=Recipe.of(*tiny), cache=cache)


@lru_cache
def _multitask(tiny: Tiny, cache: Path) -> Path:
    from qdmerge_zoo.segmentation import Recipe, multitask

    return multitask(Recipe.of(*tiny), cache=cache)
