"""Where models and data come from: what qdmerge knows, a GGUF file, or a part of the tiny zoo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qdmerge.checkpoints import fetch, is_hub_id, missing
from qdmerge.errors import QDMergeError, nearest

if TYPE_CHECKING:
    from qdmerge_zoo.llm import Recipe

_TINY = "tiny://"
TINY_TASKS = ("coding", "db", "os", "regex", "joins", "sed")
"""Tasks of the largest tiny zoo; smaller ones have the first of them."""
TINY_ALL = f"{_TINY}all"
"""The zoo's base, fine-tuned on all its tasks."""


def is_tiny(source: str) -> bool:
    """Whether a source is a part of the tiny zoo, which is built on first use."""
    return source.startswith(_TINY)


def tiny_task(source: str) -> str | None:
    """The task of which a source is the expert or the data in the tiny zoo, or None."""
    name = source.removeprefix(_TINY).removesuffix(".jsonl")
    return name if is_tiny(source) and name in TINY_TASKS else None


def is_gguf(source: str) -> bool:
    """Whether a source names a GGUF file, which is converted on first use."""
    return source.lower().endswith(".gguf")


def is_local(source: str) -> bool:
    """Whether a source is a path on this machine."""
    return bool(source) and not is_tiny(source) and not is_hub_id(source)


def is_here(source: str) -> bool:
    """Whether a source is a model that can be looked at without building or converting anything."""
    return is_local(source) and not is_gguf(source)


def source_problem(source: str, what: Literal["base", "expert", "data"]) -> str | None:
    """What is wrong with the source of a model or of data, or None; only looks."""
    if is_tiny(source):
        data = [f"{name}.jsonl" for name in TINY_TASKS]
        names = data if what == "data" else ["base", *TINY_TASKS, "all"]
        name = source.removeprefix(_TINY)
        if name not in names:
            return f"no '{source}'{nearest(name, names)} Known: {', '.join(names)}."
        return None
    path = Path(source).expanduser()
    if what == "expert" and is_gguf(source):
        return (
            f"'{source}' is a GGUF file, which only the base can be: what its quantization lost "
            "would count as learned. Name a LoRA adapter or a directory of safetensors"
        )
    if what == "data" or is_gguf(source):
        if not path.is_file():
            return missing("file", source)
        return None if what == "data" else _gguf_problem(path)
    if not path.is_dir():
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


def resolve(source: str, tiny: Recipe | None = None) -> Path:
    """The local file or directory of a source; builds, converts or downloads when needed.

    Args:
        source: Path, Hub id, or part of the tiny zoo.
        tiny: Recipe of the zoo that ``tiny://`` refers to; None for the default one.

    Raises:
        CheckpointError: The Hub does not give the model, or the GGUF file holds none.
        ConfigError: A GGUF file is given and the package to read it is not installed.
    """
    if is_tiny(source):
        from qdmerge_zoo.llm import Recipe, multitask_model, zoo

        if source == TINY_ALL:
            return multitask_model(tiny or Recipe())
        name = source.removeprefix(_TINY)
        folder = zoo(recipe=tiny)
        return folder / "data" / name if name.endswith(".jsonl") else folder / name
    path = fetch(source)
    if is_gguf(source):
        from qdmerge_llm.gguf import convert

        return convert(path)
    return path
