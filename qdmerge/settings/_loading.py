"""From text to settings: files, presets, overrides."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticUndefined, to_jsonable_python

from qdmerge.errors import ConfigError, nearest
from qdmerge.options import explain
from qdmerge.settings._discovery import find_backend, read_preset
from qdmerge.settings._presets import with_search_preset
from qdmerge.settings._schema import RunConfig, backend_from
from qdmerge.storage import parse_yaml


def parse_config(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Check a configuration given as plain data; look at nothing beyond it.

    Args:
        data: The configuration.
        overrides: ``"dotted.key=value"`` settings that win over ``data``; values are YAML.

    Raises:
        ConfigError: All mistakes that were found, one per line.
    """
    try:
        return RunConfig.model_validate(_with_overrides(data, overrides))
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, RunConfig))) from error


def load_config(
    source: str | Path,
    overrides: Sequence[str] = (),
    parts: Mapping[str, str | list[str] | None] | None = None,
    models: bool = True,
    search_preset: str | None = None,
) -> RunConfig:
    """Read and check the configuration of a file, a preset, or a backend's first preset.

    Loads no weights; the backend looks for mistakes of its own (:meth:`BackendConfig.problems`).

    Args:
        source: Path of a YAML file, or a name of ``qdmerge list``.
        overrides: See :func:`parse_config`.
        parts: Configuration key to the part (for ``emitters``, the parts) to use instead; a part
            that the source configures already keeps its options.
        models: Whether the backend looks for mistakes; not before it has made its models.
        search_preset: Name of a search preset, whose parts win over the source, but not over
            ``parts`` and ``overrides``.

    Raises:
        ConfigError: No such file or name, no YAML mapping, or all mistakes in it, one per line.
    """
    data = _read_yaml(*_source_text(source))
    if search_preset is not None:
        data = with_search_preset(data, search_preset, _guided(data))
    data = _with_parts(data, parts or {})
    data = _with_overrides(data, overrides)
    problems = []
    try:
        config = parse_config(data)
        problems += _unknown_names(config)
    except ConfigError as error:
        problems = str(error).split("\n")
    if models:
        with suppress(ValueError):  # Settings that the backend refuses are among them already.
            problems += backend_from(data.get("backend")).problems()
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _guided(data: Mapping[str, Any]) -> bool:
    """Return whether the backend that is named has a guide; True if the name is wrong."""
    backend = data.get("backend")
    name = backend.get("name") if isinstance(backend, Mapping) else backend
    try:
        return find_backend(str(name)).guided
    except ConfigError:
        return True  # reported with the other mistakes


def _unknown_names(config: RunConfig) -> list[str]:
    known = config.backend.names()
    if known is None:
        return []
    settings: dict[str, Iterable[str]] = {
        "axes.ranges": config.axes.ranges,
        "final.weights": config.final.weights,
    }
    return [
        f"'{key}': unknown name '{name}'{nearest(name, known)} Known: {', '.join(known)}."
        for key, named in settings.items()
        for name in named
        if name not in known
    ]


def _with_parts(
    data: dict[str, Any], parts: Mapping[str, str | list[str] | None]
) -> dict[str, Any]:
    data = dict(data)
    for key, chosen in parts.items():
        if isinstance(chosen, list):
            data[key] = [_keep_options(data.get(key), name) for name in chosen]
        elif chosen is not None:
            data[key] = _keep_options(data.get(key), chosen)
    return data


def _keep_options(configured: Any, name: str) -> Any:
    listed = configured if isinstance(configured, list) else [configured]
    same = [part for part in listed if isinstance(part, dict) and part.get("name") == name]
    return same[0] if same else name


def _source_text(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or os.path.isfile(path):
        try:
            return path.read_text(encoding="utf-8"), str(source)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read configuration '{source}': {error}") from error
    return read_preset(str(source)), str(source)


def _read_yaml(text: str, where: str) -> dict[str, Any]:
    try:
        data = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must hold keys and values, but holds {type(data).__name__}")
    return data


def _with_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    merged = dict(data)
    for override in overrides:
        merged = _with_override(merged, override)
    return merged


def _with_override(data: dict[str, Any], override: str) -> dict[str, Any]:
    key, separator, text = override.partition("=")
    if not (separator and key):
        raise ConfigError(f"'{override}' is not of the form key=value (execution.workers=2)")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"'{override}': the value is not valid YAML: {text}") from error
    head, *rest = key.split(".")
    if rest and head not in data and head in RunConfig.model_fields:
        # An option of a default part: archive.bins=10 without any archive in the data.
        default = RunConfig.model_fields[head].get_default()
        if default is not PydanticUndefined:
            data = {**data, head: to_jsonable_python(default)}
    return _set(data, [head, *rest], value, key)


def _set(data: Any, path: list[str], value: Any, key: str) -> Any:
    """Return nested data with the value at the path, copied; a part may be given by its name."""
    if not path:
        return value
    head, *rest = path
    if isinstance(data, list):
        if not (head.isdigit() and int(head) < len(data)):
            raise ConfigError(f"'{key}': a list has positions 0 to {len(data) - 1}, not '{head}'")
        return [_set(v, rest, value, key) if i == int(head) else v for i, v in enumerate(data)]
    if isinstance(data, str):
        data = {"name": data}
    if not isinstance(data, Mapping | None):
        raise ConfigError(f"'{key}': there is nothing called '{head}' inside {data!r}")
    nested = dict(data or {})
    nested[head] = _set(nested.get(head), rest, value, key)
    return nested
