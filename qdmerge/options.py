"""Options: the arguments of a callable, checked by its own annotations.

A bound is written once, in the annotation (``Annotated[float, Field(ge=0)]``). :func:`checked`
enforces it in Python, and :class:`qdmerge.parts.Registry` in text, before anything is built.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from qdmerge.errors import ConfigError, nearest

_T = TypeVar("_T", bound=Callable[..., Any])


def checked(target: _T) -> _T:
    """Decorate a class or function: a call with an argument out of bounds is a ConfigError.

    Arguments reach ``target`` as pydantic reads them (``"3"`` becomes 3 where an int is annotated).
    Annotations that pydantic does not know, such as arrays, archives and protocols, are not
    checked. Of a class the constructor is checked, so put this above ``@dataclass``.

    Args:
        target: The class or function.

    Returns:
        ``target`` itself for a class, else a wrapper of the same signature.
    """
    if inspect.isclass(target):
        target.__init__ = _checking(target, target.__init__, skip=1)  # type: ignore[method-assign]
        return target
    return _checking(target, target, skip=0)


def _checking(target: Callable[..., Any], function: Callable[..., Any], skip: int) -> Any:
    """Wrap ``function`` so that all but its first ``skip`` arguments are checked."""
    signature = inspect.signature(target)

    @functools.cache  # on the first call, when every name in annotations exists
    def model() -> type[BaseModel]:
        return options_model(target, any_class=False)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args[skip:], **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # raises, and names the function
        known = {key: bound.arguments[key] for key in bound.arguments.keys() & model().model_fields}
        try:
            parsed = model().model_validate(known)
        except ValidationError as error:
            lines = explain(error, model(), where=target.__name__)
            raise ConfigError("\n".join(lines)) from None
        bound.arguments.update({key: getattr(parsed, key) for key in known})
        return function(*args[:skip], *bound.args, **bound.kwargs)

    return call


def options_model(
    target: Callable[..., Any], without: Collection[str] = (), any_class: bool = True
) -> type[BaseModel]:
    """Return a pydantic model of the parameters of a callable.

    Args:
        target: A class or function.
        without: Names of parameters to leave out.
        any_class: Whether annotations with classes that pydantic does not know are checked by
            ``isinstance``; else these parameters are left out.

    Raises:
        ConfigError: Python cannot tell the parameters.
    """
    config = ConfigDict(arbitrary_types_allowed=any_class, protected_namespaces=())
    fields: dict[str, Any] = {}
    takes_any = False
    try:
        parameters = inspect.signature(target).parameters
    except ValueError as error:
        raise ConfigError(f"cannot tell which options {target!r} takes: {error}") from error
    names = _names_known_to(target)
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is not parameter.VAR_POSITIONAL and parameter.name not in without:
            hint = _hint(parameter, names, config)
            if any_class or hint is not Any:
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[parameter.name] = (hint, default)
    extra: Any = "allow" if takes_any else "forbid"
    return create_model("Options", __config__=config | {"extra": extra}, **fields)


def _names_known_to(target: Callable[..., Any]) -> dict[str, Any]:
    """Return the globals of the module that defines a function, or a class's constructor."""
    if inspect.isclass(target):
        owner = next(one for one in target.__mro__ if "__init__" in vars(one))
        return vars(sys.modules[owner.__module__])
    return getattr(inspect.unwrap(target), "__globals__", {})


def _hint(parameter: inspect.Parameter, names: dict[str, Any], config: ConfigDict) -> Any:
    """Return the type of a parameter as pydantic can check it, else Any: third-party annotations
    may name things that exist for type checkers only, or types that pydantic does not know.
    """
    annotation = parameter.annotation
    try:
        if isinstance(annotation, str):
            annotation = eval(annotation, names)
        create_model("Probe", __config__=config, option=(annotation, ...))
    except Exception:
        return Any
    return Any if annotation is parameter.empty else annotation


def explain(error: ValidationError, model: type[Any], where: str = "") -> list[str]:
    """Turn a pydantic error into lines for people: path, what was expected, nearest known key.

    Args:
        error: The error.
        model: The model that was validated.
        where: What the model belongs to; every line begins with it.
    """
    lines: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        location = tuple(part for part, _ in _walk(model, item["loc"]))
        path = ".".join(str(part) for part in location)
        prefix = f"{where}: " if where else ""
        place = f"{prefix}'{path}'" if path else where
        if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = _known_keys(model, item["loc"][:-1])
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


def _walk(model: type, location: tuple[int | str, ...]) -> Iterator[tuple[int | str, Any]]:
    """Yield the parts of a path, each with the annotation there, without pydantic's names of
    members of unions: ("bins", "int") has one part, "bins".
    """
    annotation: Any = model
    parts = iter(location)
    for part in parts:
        annotation = _below(annotation, part)
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        members = [annotation]
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            members = [one for one in typing.get_args(annotation) if one is not type(None)]
        if len(members) > 1:
            tag = next(parts, None)
            members = [one for one in members if tag in _tags(one)]
        annotation = members[0] if members else None
        yield part, annotation


def _tags(member: Any) -> set[Any]:
    """Return the names that pydantic may give a member of a union in paths."""
    kinds = [getattr(field, "annotation", None) for field in _fields(member).values()]
    literals = [typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is Literal]
    return {getattr(member, "__name__", None), *itertools.chain(*literals)}


def _fields(annotation: Any) -> Mapping[str, Any]:
    """Return the fields of a pydantic model or a dataclass; {} for anything else."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation.model_fields
    is_dataclass = inspect.isclass(annotation) and dataclasses.is_dataclass(annotation)
    return {field.name: field for field in dataclasses.fields(annotation)} if is_dataclass else {}


def _below(annotation: Any, part: int | str) -> Any:
    """Return the annotation of a field or of a container's elements; None if unknown."""
    if found := _fields(annotation).get(str(part)):
        return getattr(found, "annotation", None)
    arguments = typing.get_args(annotation)
    containers = (dict, list, Mapping, Sequence)
    return arguments[-1] if arguments and typing.get_origin(annotation) in containers else None


def _known_keys(model: Any, path: tuple[int | str, ...]) -> set[str]:
    """Return the keys that are known at a path of a validation error."""
    *_, (_, annotation) = [("", model), *_walk(model, path)]
    nested = [one for one in (annotation, *typing.get_args(annotation)) if _fields(one)]
    return set(_fields(nested[0])) if nested else set()
