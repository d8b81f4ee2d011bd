"""Registries of parts: names in text, and the callables that they stand for.

A part (archive, emitter, operator, scheduler, space) is any callable. When a configuration names
one, its parameters that carry the name of something the run provides are filled by the run (an
archive receives ``ranges``, ``seed``, ...); all others are the part's options. So stock pyribs
classes are parts as they are, and ``module:Class`` names any other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from qdmerge.errors import ConfigError, nearest
from qdmerge.options import explain, options_model
from qdmerge.plugins import installed

PARTS_GROUP = "qdmerge.parts"
"""Entry points of other packages' parts.

Each names a mapping: kind of part ("emitter", "search_preset") to name to :class:`Entry`, or to
:class:`~qdmerge.settings.SearchPreset`; or to a function without arguments that returns these.
"""


def load_target(target: str) -> Callable[..., Any]:
    """Import ``"module:attribute"``.

    Raises:
        ConfigError: The module cannot be imported, or the attribute does not exist or is not
            callable.
    """
    module_name, _, attribute = target.partition(":")
    if not (module_name and attribute) or module_name.startswith("."):
        raise ConfigError(f"'{target}' is not of the form module:attribute")
    try:
        module = import_module(module_name)
    except Exception as error:
        raise ConfigError(f"cannot import '{target}': {error}") from error
    try:
        loaded = getattr(module, attribute)
    except AttributeError as error:
        hint = nearest(attribute, dir(module))
        raise ConfigError(f"module '{module_name}' has no '{attribute}'{hint}") from error
    if not callable(loaded):
        raise ConfigError(f"'{target}' is a {type(loaded).__name__}, not something to call")
    return loaded


@dataclass(frozen=True)
class Entry:
    """A registered part: where it is, one line about it, and defaults for its options."""

    target: str
    summary: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InstalledParts:
    """What other packages bring of one kind, by name; ``broken``: pairs of package and cause."""

    parts: Mapping[str, Any]
    broken: tuple[tuple[str, str], ...] = ()


def installed_parts(kind: str) -> InstalledParts:
    """Find the parts of a kind that other packages bring, by entry point. Of two of the same name,
    the first in order of their entry points wins.
    """
    parts: dict[str, Any] = {}
    broken = []
    for package, point in installed(PARTS_GROUP).items():
        try:
            brought = point.load().get(kind, {})
            parts = {**(brought() if callable(brought) else brought), **parts}
        except Exception as error:
            broken.append((package, " ".join(f"{type(error).__name__}: {error}".split())))
    return InstalledParts(parts, tuple(broken))


class Registry:
    """Names of one kind of part: built in, or brought by other packages.

    Args:
        kind: What the parts are called in messages ("archive").
        context: Names of the parameters that the run fills.
        entries: Name to entry.
        unfit: Name or ``module:attribute`` of what cannot be such a part, to the reason.
    """

    def __init__(
        self,
        kind: str,
        context: Iterable[str],
        entries: Mapping[str, Entry],
        unfit: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.context = frozenset(context)
        self.unfit = dict(unfit or {})
        self._entries = dict(entries)

    def items(self) -> list[tuple[str, Entry]]:
        """Return all names with their entries, sorted by name."""
        return sorted({**installed_parts(self.kind).parts, **self._entries}.items())

    def entry(self, name: str) -> Entry:
        """Return the entry of a name; ``module:attribute`` is its own entry.

        Raises:
            ConfigError: Unknown name; the message suggests the nearest one. Or it is unfit.
        """
        if name in self._entries:
            return self._entries[name]
        if name in self.unfit:
            raise ConfigError(f"{self.kind} '{name}' cannot be used: it {self.unfit[name]}")
        if ":" in name:
            return Entry(name, name)
        brought = installed_parts(self.kind)
        if name in brought.parts:
            return brought.parts[name]
        known = sorted({*self._entries, *brought.parts})
        broken = "".join(
            f" The parts of '{package}' cannot be loaded: {cause}"
            for package, cause in brought.broken
        )
        raise ConfigError(
            f"unknown {self.kind} '{name}'{nearest(name, known)} "
            f"Known: {', '.join(known)}, or module:attribute.{broken}"
        )

    def build(self, name: str, options: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
        """Build a part from its options and what the run provides.

        Args:
            name: Registered name or ``module:attribute``.
            options: The user's options; they win over the entry's defaults and the context.
            context: What the run provides, by parameter name.

        Raises:
            ConfigError: Unknown name, unknown or missing option, or an option of a wrong type.
        """
        entry = self.entry(name)
        target = load_target(entry.target)
        merged = {**entry.defaults, **options}
        checked = self._check(name, target, merged)
        accepted = inspect.signature(target).parameters
        filled = {key: value for key, value in context.items() if key in accepted}
        return target(**{**filled, **checked})

    def problems(self, name: str, options: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with a name and its options, a line each; builds nothing."""
        try:
            entry = self.entry(name)
            self._check(name, load_target(entry.target), {**entry.defaults, **options})
        except ConfigError as error:
            return str(error).split("\n")
        return []

    def _check(
        self, name: str, target: Callable[..., Any], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        model = options_model(target, without=self.context - set(options))
        try:
            parsed = model.model_validate(dict(options))
        except ValidationError as error:
            lines = explain(error, model, where=f"{self.kind} '{name}'")
            raise ConfigError("\n".join(lines)) from error
        return {key: getattr(parsed, key) for key in options}
