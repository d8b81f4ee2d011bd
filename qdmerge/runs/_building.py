"""From a configuration to the objects of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.archives import AxisSizing
from qdmerge.backend import GenomeBackend
from qdmerge.config import RunConfig, load_config
from qdmerge.cycleqd import CycleQD
from qdmerge.errors import ConfigError
from qdmerge.parts import (
    ARCHIVES,
    EMITTERS,
    SCHEDULERS,
    SPACES,
    Part,
    build_part,
)
from qdmerge.runs._search import Listener, Progress

if TYPE_CHECKING:
    from qdmerge.spaces import Space, TaskVectors, WeightSpace


class BuildBackend:
    """Builds a configuration's backend; picklable, so that workers build their own.

    Args:
        config: The run's configuration.
    """

    def __init__(self, config: RunConfig) -> None:
        self._backend = config.backend
        self._space = config.space

    def __call__(self) -> GenomeBackend:
        """Builds the backend with the configured space.

        Raises:
            ConfigError: A space is configured, but the backend has one of its own, or does not
                give the space what it needs.
        """
        part = self._space
        if part is None:
            return self._backend.build(None)
        built = []

        def space(vectors: TaskVectors) -> WeightSpace:
            built.append(build_part(SPACES, part, {"vectors": vectors}))
            return built[-1]

        backend = self._backend.build(space)
        if not built:
            raise ConfigError(
                f"backend '{self._backend.name}' has a space of its own, so 'space: {part.name}' "
                "would be ignored; remove it, or the recipe that sets it"
            )
        built[-1].ready()
        return backend


DECISIVE = ("dtype", "weights", "base_files", "statistics", "items", "calibration")
"""The facts that decide, beside the settings, what a solution scores; the last is the space's."""


def changed_facts(
    recorded: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str] = DECISIVE
) -> list[str]:
    """Names of the facts that are others now than were recorded."""
    return [name for name in names if recorded.get(name) != now.get(name)]


def domain_facts(backend: GenomeBackend) -> dict[str, Any]:
    """The backend's facts, and what its space adds to what a solution means."""
    from qdmerge.spaces import WeightSpace

    space = backend.space
    facts = dict(backend.facts())
    if isinstance(space, WeightSpace):
        facts |= {"base_files": space.vectors.companions, **space.facts()}
    plain: dict[str, Any] = json.loads(json.dumps(facts))  # as a log gives them back
    return plain


def warm_up(backend: GenomeBackend, listener: Listener) -> None:
    """Lets the space do once what all models need: here, where no evaluation's time limit counts.

    Raises:
        QDMergeError: The space cannot be used with these experts.
    """
    from qdmerge.spaces import WeightSpace

    if isinstance(backend.space, WeightSpace):
        backend.space.warm_up(lambda stage, done, total: listener(Progress(stage, done, total)))


def load_backend(source: str | Path, overrides: Sequence[str] = ()) -> GenomeBackend:
    """Builds the backend of a configuration file, a preset, or a backend's first preset.

    Args:
        source: Path of a YAML file, or a name of ``qdmerge list``.
        overrides: ``"dotted.key=value"`` settings that win over the source.

    Raises:
        QDMergeError: The configuration is wrong, or the backend cannot be built.
    """
    return BuildBackend(load_config(source, overrides))()


def _start(config: RunConfig) -> Callable[[Space], np.ndarray]:
    """Makes the solutions of the configured recipes."""
    from qdmerge.baselines import grid, recipe_solutions

    def solutions(space: Space) -> np.ndarray:
        made = []
        for part in config.start:
            rows = grid(
                part.recipe,
                len(space.experts),
                scales=part.scales,
                tilts=part.tilts,
                ridges=part.ridges,
            )
            made.append(recipe_solutions(part.recipe, space, rows))
        return np.concatenate(made)

    return solutions


def build_search(config: RunConfig, backend: GenomeBackend) -> CycleQD:
    """The search of a configuration.

    Raises:
        QDMergeError: Parts that do not fit each other, or options that a part refuses.
    """

    def emitter_factory(part: Part) -> Callable[..., Any]:
        return lambda archive, spec: build_part(
            EMITTERS, part, {"archive": archive, **spec.context}
        )

    try:
        return CycleQD(
            backend,
            archive=lambda spec: build_part(ARCHIVES, config.archive, spec.context),
            emitters=[emitter_factory(part) for part in config.emitters],
            scheduler=lambda archives, emitters: build_part(
                SCHEDULERS, config.scheduler, {"archives": archives, "emitters": emitters}
            ),
            axes=AxisSizing(**config.axes.model_dump()),
            start=_start(config) if config.start else None,
            seed=config.seed,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a part refuses its options: {error}") from error
