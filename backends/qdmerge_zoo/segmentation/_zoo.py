"""The cache of zoos: built once, whole or not at all, checked on every use."""

from __future__ import annotations

from pathlib import Path

from qdmerge.backend import Progress
from qdmerge.storage import built_once, cache_dir
from qdmerge_zoo.segmentation._build import build
from qdmerge_zoo.segmentation._recipe import Recipe


def zoo(
    seed: int = 0,
    cache: Path | str | None = None,
    progress: Progress | None = None,
    recipe: Recipe | None = None,
) -> Path:
    """Return the folder of a tiny base, its experts and their images, built if necessary.

    Args:
        seed: Seed of the default recipe.
        cache: Where zoos are kept; default ``$QDMERGE_CACHE`` or the platform's cache folder.
        progress: Called as ``progress(stage, done, total)`` while building.
        recipe: Another recipe, with a seed of its own.

    Returns:
        A folder with ``base/`` and a folder of each task's expert (``leaf/``; each loads with
        transformers), ``data/TASK/`` with ``images/``, ``masks/`` and ``index.csv``, and
        ``recipe.json``.

    Raises:
        RunError: If the cache cannot be written or training fails.
    """
    recipe = recipe or Recipe(seed=seed)
    report = progress or (lambda stage, done, total: None)
    return built_once(
        (Path(cache) if cache else cache_dir()) / f"segmentation-tiny-{recipe.key}",
        lambda folder: build(recipe, folder, report),
        "The tiny segmentation models",
    )
