"""Where models and data come from: what qdmerge knows, or a GGUF file."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from qdmerge.checkpoints import Scheme, SourceKind, fetch, is_hub_id, is_local, missing, scheme_of
from qdmerge.errors import QDMergeError

BACKEND = "llm"
"""The name of the backend."""
SchemeOf = Callable[[str], Scheme | None]
"""Gives the scheme that a source belongs to; None for paths and Hub ids."""
DEFAULT_SCHEMES: SchemeOf = partial(scheme_of, backend=BACKEND)
"""Schemes with default options."""


def is_gguf(source: str) -> bool:
    """Return whether a source names a GGUF file, which is converted on first use."""
    return source.lower().endswith(".gguf")


def is_here(source: str) -> bool:
    """Return whether a source is a model that can be read without building or converting."""
    return bool(source) and is_local(source) and not is_gguf(source)


def source_problem(
    source: str, what: SourceKind, schemes: SchemeOf = DEFAULT_SCHEMES
) -> str | None:
    """Return what is wrong with the source of a model or of data, or None; only look."""
    try:
        if scheme := schemes(source):
            return scheme.problem(source, what)
    except QDMergeError as error:
        return str(error)
    path = Path(source).expanduser()
    if what == "expert" and is_gguf(source):
        return (
            f"'{source}' is a GGUF file, which only the base can be: what its quantization lost "
            "would count as learned. Name a LoRA adapter or a directory of safetensors"
        )
    if what == "data" or is_gguf(source):
        if not os.path.isfile(path):  # also of a name too long for a file
            return missing("file", source)
        return None if what == "data" else _gguf_problem(path)
    if not os.path.isdir(path):
        return None if is_hub_id(source) else missing("directory", source)
    if (path / "config.json").is_file():
        return None
    if not (path / "adapter_config.json").is_file():
        return f"'{source}' holds no config.json: not a model in the format of transformers"
    return "is an adapter; name the model it was made for" if what == "base" else None


def _gguf_problem(path: Path) -> str | None:
    from qdmerge_llm.gguf import check

    try:
        check(path)
    except QDMergeError as error:
        return str(error)
    return None


def resolve(source: str, schemes: SchemeOf = DEFAULT_SCHEMES) -> Path:
    """Return the local file or directory of a source; build, convert or download when needed.

    Args:
        source: Path, Hub id, or part of a scheme.
        schemes: Gives the scheme that a source belongs to.

    Raises:
        CheckpointError: The Hub does not give the model, or the GGUF file holds none.
        ConfigError: A GGUF file is given and the package to read it is not installed.
    """
    scheme = schemes(source)
    path = fetch(source, scheme)
    if scheme is None and is_gguf(source):
        from qdmerge_llm.gguf import convert

        return convert(path)
    return path
