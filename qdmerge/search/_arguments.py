"""What a search is made of: names or factories, and a sentence for anything else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qdmerge.archives import ArchiveFactory
from qdmerge.emitters import EmitterFactory
from qdmerge.errors import ConfigError, kind_of
from qdmerge.parts import NamedArchive, NamedEmitter, NamedScheduler, Part
from qdmerge.schedulers import UNFIT_SCHEDULERS, TaskScheduler

Named = str | Mapping[str, Any] | Part
"""A part by its name (``"cvt"``), or with options (``{"name": "cvt", "centroids": 100}``)."""

SchedulerFactory = Callable[..., TaskScheduler]
"""Makes a scheduler from archives and emitters by task; gets ``seed=`` if it takes one."""


def archive_factory(given: ArchiveFactory | Named) -> ArchiveFactory:
    """Return the factory of archives that a name or a function stands for."""
    if isinstance(given, str | Mapping | Part):
        return NamedArchive.of(given)
    if inspect.isclass(given) or not callable(given):
        _refuse("archive", given, "'cvt'", "lambda spec: GridArchive(..., **spec.storage)")
    return given


def emitter_factories(
    given: Sequence[EmitterFactory | Named] | EmitterFactory | Named,
) -> tuple[EmitterFactory, ...]:
    """Return the factories of emitters that names or functions stand for."""
    one = isinstance(given, str | Mapping | Part) or callable(given)
    if not one and not isinstance(given, Sequence):
        raise ConfigError(f"emitters must be a list; got {kind_of(given)}")
    found: list[EmitterFactory] = []
    for emitter in [given] if one else given:  # type: ignore[union-attr]
        if isinstance(emitter, str | Mapping | Part):
            found.append(NamedEmitter.of(emitter))
        elif not callable(emitter) or _is_stock_class(emitter):
            made = "lambda archive, spec: GaussianEmitter(archive, x0=spec.space.x0, ...)"
            _refuse("emitter", emitter, "'merge'", made)
        else:
            found.append(emitter)
    return tuple(found)


def _is_stock_class(emitter: object) -> bool:
    """Tell whether it is a class that is not made of an archive and a spec, as pyribs' are."""
    return inspect.isclass(emitter) and "spec" not in inspect.signature(emitter).parameters


def scheduler_factory(given: SchedulerFactory | Named) -> SchedulerFactory:
    """Return the factory of schedulers that a name or a function stands for."""
    if isinstance(given, str | Mapping | Part):
        return NamedScheduler.of(given)
    name = getattr(given, "__name__", "")
    if name in UNFIT_SCHEDULERS and str(getattr(given, "__module__", "")).startswith("ribs."):
        raise ConfigError(f"scheduler {name} cannot be used: it {UNFIT_SCHEDULERS[name]}")
    if not callable(given):
        _refuse("scheduler", given, "'cycle'", "a class of qdmerge.schedulers")
    return given


def _refuse(kind: str, given: object, name: str, made: str) -> None:
    raise ConfigError(
        f"{kind} must be a name such as {name}, or a function that makes one, such as {made}; got "
        f"{kind_of(given)}"
    )


def check_backend(backend: Any) -> None:
    """Check that an object has what every backend has.

    Raises:
        ConfigError: It has not.
    """
    missing = [name for name in ("tasks", "space", "evaluate") if not hasattr(backend, name)]
    if inspect.isclass(backend) or missing:
        lacking = f", which has no {', '.join(missing)}" if missing else ""
        raise ConfigError(
            f"backend must be an object with tasks, space and evaluate(); got {kind_of(backend)}"
            f"{lacking}"
        )


def makes_new(factory: ArchiveFactory) -> bool:
    """Return whether a factory of archives surely makes a new one on each call."""
    if isinstance(factory, NamedArchive):
        return factory.fresh
    while isinstance(factory, functools.partial):
        factory = factory.func
    return (getattr(factory, "__module__", None) or "").partition(".")[0] == "qdmerge"


def takes_seed(factory: Callable[..., Any]) -> bool:
    """Return whether a factory of schedulers has a parameter ``seed``."""
    try:
        return "seed" in inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return False
