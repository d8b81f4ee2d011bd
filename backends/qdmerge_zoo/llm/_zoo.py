"""The cache of zoos: built once, whole or not at all, checked on every use.

A model that is fine-tuned on all tasks is an entry of its own beside its zoo.
"""

from __future__ import annotations

import json
from pathlib import Path

from qdmerge.backend import Progress
from qdmerge.storage import MANIFEST, built_once, cache_dir, intact
from qdmerge_zoo.llm._build import build, build_all
from qdmerge_zoo.llm._recipe import ALL, Recipe

__all__ = ["MANIFEST", "intact", "multitask", "multitask_cost", "zoo"]


def zoo(
    seed: int = 0,
    cache: Path | str | None = None,
    progress: Progress | None = None,
    recipe: Recipe | None = None,
) -> Path:
    """Return the folder of the tiny base, its experts and their data, built if necessary.

    Args:
        seed: Seed of the default recipe.
        cache: Where zoos are kept; default ``$QDMERGE_CACHE`` or the platform's cache folder.
        progress: Called as ``progress(stage, done, total)`` while building.
        recipe: Another recipe, with a seed of its own.

    Returns:
        A folder with ``base/``, one for each expert, such as ``coding/`` (each loads with
        transformers), ``data/*.jsonl`` and ``recipe.json``.

    Raises:
        RunError: If the cache cannot be written or training fails.
    """
    recipe = recipe or Recipe(seed=seed)
    report = progress or _silent
    return built_once(
        (Path(cache) if cache else cache_dir()) / f"llm-tiny-{recipe.key}",
        lambda folder: build(recipe, folder, report),
        "The tiny language models",
    )


def multitask(
    recipe: Recipe, cache: Path | str | None = None, progress: Progress | None = None
) -> Path:
    """Return the folder of the base fine-tuned on all tasks of its zoo; both built if necessary.

    Args:
        recipe: Recipe of the zoo; :meth:`Recipe.stage` tells the training of ``all``.
        cache: See :func:`zoo`.
        progress: See :func:`zoo`.

    Raises:
        RunError: If the cache cannot be written or training fails.
    """
    whole, report = zoo(cache=cache, progress=progress, recipe=recipe), progress or _silent
    entry = built_once(
        _multitask_entry(whole),
        lambda folder: build_all(recipe, whole, folder, report),
        "The tiny language models",
    )
    return entry / ALL


def multitask_cost(recipe: Recipe, cache: Path | str | None = None) -> dict[str, float] | None:
    """Return what :func:`multitask` cost to train, or None where it is not built yet.

    The cost is ``{"steps": optimizer steps, "examples": sequences seen, "seconds": wall time}``.
    """
    entry = _multitask_entry((Path(cache) if cache else cache_dir()) / f"llm-tiny-{recipe.key}")
    if not intact(entry):
        return None
    facts = json.loads((entry / "recipe.json").read_text())
    return {name: float(facts[name]) for name in ("steps", "examples", "seconds")}


def _multitask_entry(zoo: Path) -> Path:
    return zoo.with_name(f"{zoo.name}-{ALL}")


def _silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
