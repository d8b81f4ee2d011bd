"""One small registry for every kind of plug-in, used only where text meets code.

A part (archive, emitter, operator, scheduler, space) is any callable. When a configuration names
one, its parameters that carry the name of something the run provides are filled by the run (an
archive receives ``ranges``, ``seed``, ...); all others are the part's options. So stock pyribs
classes are parts as they are, and ``module:Class`` names any other.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from qdmerge.errors import ConfigError, nearest

_OPTIONS = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())


def load_target(target: str) -> Callable[..., Any]:
    """Imports ``"module:attribute"``.

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


class Registry:
    """Names of one kind of part.

    Args:
        kind: What the parts are called in messages ("archive").
        context: Names of the parameters that the run fills.
        entries: Name to entry.
    """

    def __init__(self, kind: str, context: Iterable[str], entries: Mapping[str, Entry]) -> None:
        self.kind = kind
        self.context = frozenset(context)
        self._entries = dict(entries)

    def items(self) -> list[tuple[str, Entry]]:
        """All names with their entries, sorted by name."""
        return sorted(self._entries.items())

    def entry(self, name: str) -> Entry:
        """The entry of a name; ``module:attribute`` is its own entry.

        Raises:
            ConfigError: Unknown name; the message suggests the nearest one.
        """
        if name in self._entries:
            return self._entries[name]
        if ":" in name:
            return Entry(name, name)
        raise ConfigError(
            f"unknown {self.kind} '{name}'{nearest(name, self._entries)} "
            f"Known: {', '.join(sorted(self._entries))}, or module:attribute."
        )

    def build(self, name: str, options: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
        """Builds a part from its options and what the run provides.

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
        """What is wrong with a name and its options, one line each; builds nothing."""
        try:
            entry = self.entry(name)
            self._check(name, load_target(entry.target), {**entry.defaults, **options})
        except ConfigError as error:
            return str(error).split("\n")
        return []

    def _check(
        self, name: str, target: Callable[..., Any], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        model = _options_model(target, self.context - set(options))
        try:
            parsed = model.model_validate(dict(options))
        except ValidationError as error:
            lines = explain(error, model, where=f"{self.kind} '{name}'")
            raise ConfigError("\n".join(lines)) from error
        return {key: getattr(parsed, key) for key in options}


def _options_model(target: Callable[..., Any], provided: frozenset[str]) -> type[BaseModel]:
    """A pydantic model of the parameters of a callable that the run does not provide."""
    function = target.__init__ if inspect.isclass(target) else target
    fields: dict[str, Any] = {}
    takes_any = False
    try:
        parameters = inspect.signature(target).parameters
    except ValueError as error:
        raise ConfigError(f"cannot tell which options {target!r} takes: {error}") from error
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is not parameter.VAR_POSITIONAL and parameter.name not in provided:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[parameter.name] = (_hint(parameter, function), default)
    return create_model(
        "Options",
        __config__=_OPTIONS.copy() | {"extra": "allow" if takes_any else "forbid"},
        **fields,
    )


def _hint(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """The type of a parameter as pydantic can check it, else Any.

    Annotations of third-party parts may name things that exist for type checkers only, or types
    that pydantic does not know.
    """
    annotation = parameter.annotation
    try:
        if isinstance(annotation, str):
            annotation = eval(annotation, getattr(function, "__globals__", {}))
        create_model("Probe", __config__=_OPTIONS, option=(annotation, ...))
    except Exception:
        return Any
    return Any if annotation is parameter.empty else annotation


def explain(error: ValidationError, model: type[BaseModel], where: str = "") -> list[str]:
    """A pydantic error as lines for people: path, what was expected, nearest known key."""
    lines: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        location = _without_union_tag(model, item["loc"])
        path = ".".join(str(part) for part in location)
        prefix = f"{where}: " if where else ""
        place = f"{prefix}'{path}'" if path else where
        if item["type"] == "extra_forbidden":
            known = _known_keys(model, location[:-1])
            hint = nearest(str(location[-1]), known)
            listed = f" Known: {', '.join(sorted(known))}." if known else ""
            lines[f"{prefix}unknown key '{path}'{hint}{listed}"] = []
        elif item["type"] == "missing":
            lines[f"{place} is missing"] = []
        elif item["type"] == "value_error":  # from a validator of ours: a mistake a line
            for mistake in item["msg"].removeprefix("Value error, ").split("\n"):
                lines[f"{place}: {mistake}" if place else mistake] = []
        else:
            got = "" if isinstance(item["input"], dict | list) else f" (got {item['input']!r})"
            # The members of a union each complain about the same place.
            lines.setdefault(place, []).append(item["msg"] + got)
    return [": ".join(filter(None, (line, "; or: ".join(said)))) for line, said in lines.items()]


def _without_union_tag(
    model: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[int | str, ...]:
    """A place without pydantic's names of members of unions: ("bins", "int") to ("bins",)."""
    kept: list[int | str] = []
    annotation: Any = model
    parts = iter(location)
    for part in parts:
        kept.append(part)
        annotation = _below(annotation, part)
        members = [annotation]
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            members = [one for one in typing.get_args(annotation) if one is not type(None)]
        annotation = members[0] if len(members) == 1 else None
        if len(members) > 1:
            next(parts, None)
    return tuple(kept)


def _below(annotation: Any, part: int | str) -> Any:
    """The annotation of a model's field or of a container's elements; None if it cannot be told."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        found = annotation.model_fields.get(str(part))
        return found.annotation if found else None
    arguments = typing.get_args(annotation)
    return arguments[-1] if arguments and typing.get_origin(annotation) in (dict, list) else None


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> set[str]:
    """Keys that a nested model knows at a path of a validation error."""
    for part in path:
        field_info = model.model_fields.get(str(part))
        annotation = field_info.annotation if field_info else None
        candidates = (annotation, *typing.get_args(annotation))
        nested = [c for c in candidates if inspect.isclass(c) and issubclass(c, BaseModel)]
        if nested:
            model = nested[0]
    return set(model.model_fields)
