"""Where models come from: a directory or file here, or a model on the Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from qdmerge.errors import CheckpointError, nearest

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DOWNLOADED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.py"]


def is_hub_id(source: str) -> bool:
    """Whether a source can only be a model on the Hub: ``owner/name``, and no path here."""
    path = Path(source)
    return bool(_HUB_ID.fullmatch(source)) and not path.exists() and not path.parent.is_dir()


def missing(what: str, source: str) -> str:
    """Says that there is no such file or directory, and which name is near.

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


def fetch(source: str) -> Path:
    """The local path of a source; a model on the Hub is downloaded, or taken from its cache.

    Raises:
        CheckpointError: The Hub does not give the model.
    """
    if not is_hub_id(source):
        return Path(source).expanduser()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=_DOWNLOADED))
    except Exception as error:
        raise CheckpointError(
            f"'{source}' is no directory here, and the Hub does not give it: {error}"
        ) from error
