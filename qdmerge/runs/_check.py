"""A trial of the parts of a configuration, without its models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from qdmerge.backend import Evaluation, GenomeBackend, Task
from qdmerge.errors import ConfigError, QDMergeError
from qdmerge.parts import Part
from qdmerge.runs._building import build_search
from qdmerge.settings import RunConfig
from qdmerge.spaces import VectorSpace

_DIM = 64
_LISTS = ("dims", "bins", "ranges", "categories")
"""Options of archives with an entry for each axis."""


class _Space(VectorSpace):
    """Stands for a space of weights: free vectors, of which 16 coordinates are a 4 x 4 core."""

    def core_coordinates(self) -> tuple[np.ndarray, ...]:
        return (np.arange(16).reshape(4, 4),)

    def spectral_coordinates(self, expert: str) -> tuple[np.ndarray, ...]:
        return (np.arange(16),)

    def merge(self, weights: Any) -> np.ndarray:
        return np.asarray(weights) @ np.stack([self.seeds[name] for name in self.experts])

    def regression_mean(self, weights: Any) -> np.ndarray:
        return self.merge(weights)


class _Cores(_Space):
    spectral_coordinates = property()


class _Spectra(_Space):
    core_coordinates = property()


class _Plain(_Space):
    core_coordinates = spectral_coordinates = property()


_SPACES = {
    "core": _Cores,
    "spectral": _Spectra,
    "regmean": _Spectra,
    "expert": _Plain,
    "layer": _Plain,
    "dense": _Plain,
}


class _Guide:
    objectives = ("agreement", "entropy")

    def measure_gradients(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class _Domain(GenomeBackend):
    """Stands for the configured backend, with its tasks and experts."""

    def __init__(self, config: RunConfig) -> None:
        names = config.backend.names()
        self.known = names is not None
        names = list(names or _names_that_parts_tell(config))
        self.tasks = [Task(name) for name in names]
        experts = [*config.backend.model_sources()][1:] or names
        seeds = {"base": np.zeros(_DIM)} | {
            name: np.eye(1, _DIM, k)[0] for k, name in enumerate(experts)
        }
        bound = None if config.backend.model_sources() else 2.0
        kind: type[_Space] = _Space
        if config.space:  # under its name, for messages
            found = _SPACES.get(config.space.name, _Space)
            kind = type(found.__name__, (found,), {"name": config.space.name})
        self.space = kind(seeds, bound and -bound, bound, experts)
        if config.backend.guided or not self.known:
            self.guide = _Guide()  # type: ignore[assignment]

    def evaluate(self, xs: np.ndarray, split: str) -> Evaluation:
        raise NotImplementedError

    export = export_adapter = evaluate  # type: ignore[assignment]


_STAND_INS = (_Space, _Guide, _Domain)


def _names_that_parts_tell(config: RunConfig) -> list[str]:
    """Return as many names of tasks as the archive has axes for, those that parts name first."""
    options = config.archive.options
    axes = [len(value) for key in _LISTS if isinstance(value := options.get(key), list)]
    named = [*config.axes.ranges, config.scheduler.options.get("task")]
    names = [*(name for name in named if isinstance(name, str)), *"abcdefgh"]
    return list(dict.fromkeys(names))[: 1 + (axes[0] if axes else 1)]


def check_parts(config: RunConfig) -> list[str]:
    """Return what parts of a configuration cannot work, a line each, before its models are loaded.

    Parts have one turn with made-up scores on a stand-in for the backend: each emitter alone, then
    all together. What only the backend itself can tell is left to the run.
    """
    return list(dict.fromkeys(_problems(config)))


def _problems(config: RunConfig) -> Iterator[str]:
    domain = _Domain(config)
    gaussian, cycle = [Part(name="gaussian")], Part(name="cycle")
    alone: Iterable[dict[str, Any]] = [
        {"emitters": gaussian, "scheduler": cycle, "start": []},
        {"archive": Part(name="grid", bins=2), "emitters": gaussian, "start": []},  # type: ignore[call-arg]
        *({"emitters": [part], "scheduler": cycle, "start": []} for part in config.emitters),
        {},
    ]
    found = False
    for changes in alone:
        if found and not changes:
            return  # together they can only fail in the same way
        try:
            build_search(config.model_copy(update=changes), domain)
        except QDMergeError as error:
            cause = error.__cause__
            if isinstance(cause, AttributeError) and isinstance(cause.obj, _STAND_INS):
                continue  # something that only the backend itself has
            found = True
            yield from str(error).split("\n")
        except NotImplementedError:
            continue


def refuse_unfit(config: RunConfig) -> None:
    """Raise ConfigError with all problems of :func:`check_parts`, if there are any."""
    if problems := check_parts(config):
        raise ConfigError("\n".join(problems))
