"""The figures that a domain draws of a run's models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qdmerge.backend import GenomeBackend
from qdmerge.errors import ConfigError, QDMergeError, RunError
from qdmerge.runs._folder import RunFolder

_SHOWN = ("base", "expert", "average", "regmean")
"""Kinds of candidates that stand beside the chosen one, in this order."""


def can_illustrate(backend: GenomeBackend) -> bool:
    """Whether the backend has figures of its own."""
    method = getattr(type(backend), "illustrate", GenomeBackend.illustrate)
    return method is not GenomeBackend.illustrate


def models_to_show(folder: RunFolder) -> dict[str, np.ndarray]:
    """Base, experts, average and chosen model of a run with results; see ``illustrate``.

    Raises:
        RunError: There are no results yet, or a solution is missing.
    """
    results = folder.read_results()
    rows = [row for kind in _SHOWN for row in results["candidates"] if row["kind"] == kind]
    rows += [row for row in results["candidates"] if row["name"] == results["chosen"]]
    return {row["name"]: folder.solutions.get(row["solution"]) for row in rows}


def draw_examples(folder: RunFolder, backend: GenomeBackend) -> list[Path]:
    """Has the backend draw its own figures of a run's models into the folder of figures.

    Returns:
        Paths of the figures.

    Raises:
        ConfigError: The backend has none.
        RunError: There are no results yet, or the figures could not be drawn.
    """
    if not can_illustrate(backend):
        raise ConfigError(
            f"{type(backend).__name__} draws no examples, as it has no method 'illustrate'; leave "
            "--examples out"
        )
    models = models_to_show(folder)
    try:
        folder.figures.mkdir(exist_ok=True)
        return [Path(path) for path in backend.illustrate(models, folder.figures)]
    except Exception as error:
        kind = "" if isinstance(error, QDMergeError) else f"{type(error).__name__}: "
        cause = " ".join(f"{kind}{error}".split()).removesuffix(":")
        raise RunError(f"the backend's examples could not be drawn: {cause}") from error
