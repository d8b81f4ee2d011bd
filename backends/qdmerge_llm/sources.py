"""Where models and data come from: a directory or file, a Hub id, or a part of the tiny zoo."""

from __future__ import annotations

import os
import re
from pathlib import Path

from qdmerge.errors import CheckpointError
from qdmerge.registry import nearest

_TINY = "tiny://"
_TINY_NAMES = ("base", "coding", "db", "os")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_tiny(source: str) -> bool:
    """Whether a source is a part of the tiny zoo, which is built on first use."""
    return source.startswith(_TINY)


def is_hub_id(source: str) -> bool:
    """Whether a source can only be a model on the Hub: ``owner/name``, and no path here."""
    path = Path(source)
    return bool(_HUB_ID.fullmatch(source)) and not path.exists() and not path.parent.is_dir()


def source_problem(source: str, data: bool) -> str | None:
    """What is wrong with the source of a model or of data, or None; only looks."""
    if is_tiny(source):
        names = [f"{name}.jsonl" for name in _TINY_NAMES[1:]] if data else list(_TINY_NAMES)
        name = source.removeprefix(_TINY)
        if name not in names:
            return f"no '{source}'{nearest(name, names)} Known: {', '.join(names)}."
        return None
    path = Path(source).expanduser()
    if data:
        return None if path.is_file() else f"no file '{source}'{_neighbor(path)}"
    if not path.is_dir():
        return None if is_hub_id(source) else f"no directory '{source}'{_neighbor(path)}"
    if not (path / "config.json").is_file():
        return f"'{source}' holds no config.json: not a model in the format of transformers"
    return None


def _neighbor(path: Path) -> str:
    try:
        return nearest(path.name, os.listdir(path.parent))
    except OSError:
        return ""


def resolve(source: str, tiny_seed: int) -> Path:
    """The local file or directory of a source; builds the tiny zoo or downloads when needed.

    Raises:
        CheckpointError: The Hub does not give the model.
    """
    if is_tiny(source):
        from qdmerge_llm.tiny import zoo

        name = source.removeprefix(_TINY)
        folder = zoo(seed=tiny_seed)
        return folder / "data" / name if name.endswith(".jsonl") else folder / name
    if not is_hub_id(source):
        return Path(source).expanduser()
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns))
    except Exception as error:
        raise CheckpointError(
            f"'{source}' is no directory here, and the Hub does not give it: {error}"
        ) from error
