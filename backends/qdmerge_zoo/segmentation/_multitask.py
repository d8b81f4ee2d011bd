"""The base fine-tuned on all tasks' images: what merging is compared with, an artefact apart."""

from __future__ import annotations

from pathlib import Path

from qdmerge.backend import Progress
from qdmerge.storage import built_once, cache_dir
from qdmerge_zoo.segmentation._recipe import Recipe
from qdmerge_zoo.segmentation._zoo import zoo


def multitask(
    recipe: Recipe, cache: Path | str | None = None, progress: Progress | None = None
) -> Path:
    """Return the folder of the zoo's base fine-tuned on all tasks, trained if necessary.

    It takes as many steps as all experts together, at their rate and batch size, on the training
    images of all tasks in turns.

    Args:
        recipe: The recipe of the zoo, which is built, too, if it is not there.
        cache: Where zoos are kept; default ``$QDMERGE_CACHE`` or the platform's cache folder.
        progress: Called as ``progress(stage, done, total)`` while building.

    Raises:
        RunError: If the cache cannot be written or training fails.
    """
    report = progress or (lambda stage, done, total: None)
    source = zoo(cache=cache, progress=progress, recipe=recipe)

    def build(folder: Path) -> None:
        recipe.multitask_config(source, folder).make_experts(report)

    entry = multitask_place(recipe, cache).parent
    built_once(entry, build, "The tiny segmentation models")
    return multitask_place(recipe, cache)


def multitask_place(recipe: Recipe, cache: Path | str | None = None) -> Path:
    """Return where :func:`multitask` keeps its model, be it there or not."""
    kept = Path(cache) if cache else cache_dir()
    return kept / f"segmentation-tiny-{recipe.key}-all" / "all"


def multitask_cost(recipe: Recipe, cache: Path | str | None = None) -> dict[str, float] | None:
    """Return what :func:`multitask` cost to train, or None where it is not built yet.

    The cost is ``{"steps": optimizer steps, "examples": images seen, "seconds": wall time}``.
    """
    from qdmerge_segmentation.training import training_seconds

    seconds = training_seconds(multitask_place(recipe, cache))
    if seconds is None:
        return None
    stage = recipe.multitask
    return {
        "steps": stage.steps,
        "examples": stage.steps * stage.batch_size,
        "seconds": seconds,
    }
