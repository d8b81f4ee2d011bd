"""Where models and data come from: a path, a model on the Hub, or what a scheme makes.

A source ``NAME://part`` belongs to the scheme of that name. Schemes are found by entry point, in
the group ``qdmerge.sources``, as subclasses of :class:`Scheme`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from qdmerge.errors import CheckpointError, ConfigError, hint_renamed, nearest
from qdmerge.options import explain
from qdmerge.plugins import installed, load_class

GROUP = "qdmerge.sources"
"""The group of entry points that schemes are found in."""

Progress = Callable[[str, int, int], None]
"""Called with a stage, the steps of it that are done, and all its steps."""

SourceKind = Literal["base", "expert", "data"]
"""What a source is to be."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DOWNLOADED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py"]


class Scheme(BaseModel):
    """What sources ``NAME://part`` of one scheme stand for, with the user's options.

    Subclass it, declare the options as fields, and name the class in the entry point group
    ``qdmerge.sources`` under the name of the scheme. Users set options in their configuration,
    under ``backend.sources.NAME``. Importing the class must stay cheap (no torch).

    Attributes:
        presets: Name of a backend to the presets that the scheme brings for it: preset name to
            the resource of its commented YAML, ``"package/path/in/it.yaml"``. The first one is
            what ``qdmerge run BACKEND`` runs.
    """

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

    presets: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    @classmethod
    def for_backend(cls, backend: str) -> type[Scheme]:
        """Return the class whose fields are the options in a backend's settings.

        Args:
            backend: Name of the backend.

        Raises:
            ConfigError: The scheme has nothing for this backend.
        """
        return cls

    @property
    def all_tasks(self) -> str | None:
        """Source of the base fine-tuned on the data of all tasks; None if there is no such model.

        It is what merging is compared with; see :meth:`qdmerge.backend.BackendConfig.multitask`.
        """
        return None

    def problem(self, source: str, what: SourceKind) -> str | None:
        """Return what is wrong with a source of this scheme, or None; make nothing.

        Args:
            source: The whole source, ``NAME://part``.
            what: What the source is to be.
        """
        raise NotImplementedError

    def resolve(self, source: str, progress: Progress) -> Path:
        """Return the local path of a source; make or download it if it is missing.

        Args:
            source: The whole source, ``NAME://part``.
            progress: Receives the progress.

        Raises:
            QDMergeError: It cannot be made.
        """
        raise NotImplementedError

    def training_cost(self, source: str) -> dict[str, float] | None:
        """Return what the training of a model cost; None if unknown or not trained yet.

        Returns:
            ``steps`` (of the optimizer), ``examples`` (over all steps) and ``seconds``.
        """
        return None


def scheme_name(source: str) -> str | None:
    """Return the name of a source's scheme; None for a path or a Hub id."""
    name, separator, _ = source.partition("://")
    return name if separator else None


def scheme_names() -> list[str]:
    """Return the names of all installed schemes."""
    return list(installed(GROUP))


def find_scheme(name: str) -> type[Scheme]:
    """Return the class of a scheme.

    Raises:
        ConfigError: Unknown name, or the scheme cannot be imported.
    """
    return load_class(GROUP, name, Scheme, "scheme")


def build_scheme(name: str, backend: str, options: Any) -> Scheme:
    """Build the scheme of a name with options for a backend.

    Args:
        name: Name of the scheme.
        backend: Name of the backend.
        options: Option to value; or the scheme, ready.

    Raises:
        ConfigError: Unknown scheme, or wrong options; all such mistakes, one a line.
    """
    if isinstance(options, Scheme):
        return options
    scheme = find_scheme(name).for_backend(backend)
    try:
        return scheme.model_validate(options)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, scheme, f"scheme '{name}'"))) from error


def with_scheme_options(
    settings: Mapping[str, Any], fields: Collection[str], backend: str
) -> dict[str, Any]:
    """Return a backend's settings with ``SCHEME_OPTION`` as ``sources.SCHEME.OPTION``, and hint.

    Of both spellings, what is given last wins.

    Args:
        settings: The settings, as plain data.
        fields: Names of the backend's own settings, which are left alone.
        backend: Name of the backend.

    Raises:
        ValueError: ``sources`` holds anything but options.
    """
    renamed = {
        key: (scheme, key.removeprefix(f"{scheme}_"))
        for scheme in scheme_names()
        for key in map(str, settings)
        if key not in fields and key.startswith(f"{scheme}_")
    }
    if not renamed:
        return dict(settings)
    kept: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        if key in renamed:
            scheme, option = renamed[key]
            options.setdefault(scheme, {})[option] = value
        elif key == "sources" and isinstance(value, Mapping):
            for scheme, given in value.items():
                if not isinstance(given, Mapping):
                    raise ValueError(f"'sources.{scheme}' holds {given!r} instead of options")
                options.setdefault(scheme, {}).update(given)
        else:
            kept[key] = value
    hints = {  # a mistyped option has no new name; it is refused where options are checked
        f"backend.{old}": f"backend.sources.{scheme}.{option}"
        for old, (scheme, option) in renamed.items()
        if option in _option_names(scheme, backend)
    }
    if hints:
        hint_renamed(", ".join(hints), ", ".join(hints.values()))
    return {**kept, "sources": options}


def _option_names(scheme: str, backend: str) -> list[str]:
    """Return the options of a scheme for a backend; [] if there are none, or it is broken."""
    try:
        return list(find_scheme(scheme).for_backend(backend).model_fields)
    except ConfigError:
        return []


def scheme_of(
    source: str, backend: str, schemes: Mapping[str, Scheme] | None = None
) -> Scheme | None:
    """Return the scheme that a source belongs to; None for a path or a Hub id.

    Args:
        source: The source.
        backend: Name of the backend whose settings name the source.
        schemes: Name to scheme with the user's options; default options for others.

    Raises:
        ConfigError: Unknown scheme, or one that has nothing for the backend.
    """
    name = scheme_name(source)
    if name is None:
        return None
    return (schemes or {}).get(name) or build_scheme(name, backend, {})


def silent(stage: str, done: int, total: int) -> None:
    """Ignore progress."""


def is_hub_id(source: str) -> bool:
    """Tell whether a source can only be a model on the Hub: ``owner/name``, and no path here."""
    path = Path(source)
    return bool(_HUB_ID.fullmatch(source)) and not os.path.exists(path) and not path.parent.is_dir()


def is_local(source: str) -> bool:
    """Tell whether a source is a path on this machine, be there anything or not."""
    return scheme_name(source) is None and not is_hub_id(source)


def missing(what: str, source: str) -> str:
    """Return a message that there is no such file or directory, with the nearest name.

    Args:
        what: "file" or "directory".
        source: The path, as the user gave it.
    """
    path = Path(source).expanduser()
    try:
        hint = nearest(path.name, os.listdir(path.parent))
    except OSError:
        hint = ""
    return f"no {what} '{source}'{hint}"


def fetch(source: str, scheme: Scheme | None = None, progress: Progress = silent) -> Path:
    """Return the local path of a source; a scheme makes it, the Hub's models are downloaded.

    Args:
        source: Path, Hub id, or part of a scheme.
        scheme: The scheme that the source belongs to; see :func:`scheme_of`.
        progress: Receives the progress of making it.

    Raises:
        CheckpointError: The model cannot be fetched from the Hub.
    """
    if scheme is not None:
        return scheme.resolve(source, progress)
    if not is_hub_id(source):
        return Path(source).expanduser()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=_DOWNLOADED))
    except Exception as error:
        raise CheckpointError(
            f"'{source}' is no local directory, and cannot be fetched from the Hub: {error}"
        ) from error
