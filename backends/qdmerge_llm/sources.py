"""Where models and data come from: what qdmerge knows, or a part of the tiny zoo."""

from __future__ import annotations

from pathlib import Path

from qdmerge.registry import nearest
from qdmerge.sources import fetch, is_hub_id, missing

_TINY = "tiny://"
_TINY_NAMES = ("base", "coding", "db", "os")


def is_tiny(source: str) -> bool:
    """Whether a source is a part of the tiny zoo, which is built on first use."""
    return source.startswith(_TINY)


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
        return None if path.is_file() else missing("file", source)
    if not path.is_dir():
        return None if is_hub_id(source) else missing("directory", source)
    if not (path / "config.json").is_file():
        return f"'{source}' holds no config.json: not a model in the format of transformers"
    return None


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
    return fetch(source)
