"""The cache of zoos: built once, whole or not at all, checked on every use."""

from __future__ import annotations

from pathlib import Path

from qdmerge.cache import MANIFEST, built_once, cache_dir, intact

from ._build import Progress, build
from ._recipe import Recipe

__all__ = ["MANIFEST", "intact", "zoo"]


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
    report = progress or (lambda stage, done, total: None)
    return built_once(
        (Path(cache) if cache else cache_dir()) / f"llm-tiny-{recipe.key}",
        lambda folder: build(recipe, folder, report),
        "The tiny language models",
    )
