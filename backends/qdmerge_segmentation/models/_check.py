"""What keeps a model from being loaded, found without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from qdmerge.errors import CheckpointError
from qdmerge.storage import read_json

Prompt = Literal["box", "point", "none"]
"""What Segment Anything is given about each image: a box, a point, or nothing."""


def model_problems(path: Path, factory: str | None, prompt: str | None) -> list[str]:
    """List what is wrong with a model, as far as ``config.json`` shows it; loads no torch.

    Args:
        path: Folder of a model; with a factory, a module's weights or their folder.
        factory: ``module:callable`` that makes the module; None for models of transformers.
        prompt: How the model is prompted; for Segment Anything only.
    """
    if factory is not None:
        module, _, attribute = factory.partition(":")
        found = [] if module and attribute else [f"factory '{factory}' is not module:callable"]
        return found + _prompt_problems(None, prompt)
    try:
        model_type = read_config(path).get("model_type")
    except CheckpointError as error:
        return [str(error)]
    if not isinstance(model_type, str):
        return [f"{path / 'config.json'}: names no model_type, so transformers cannot load it"]
    return _prompt_problems(model_type, prompt)


def _prompt_problems(model_type: str | None, prompt: str | None) -> list[str]:
    """Check that model and prompt fit; ``model_type`` None is a module by factory."""
    if model_type == "sam" and prompt not in get_args(Prompt):
        said = "needs a prompt" if prompt is None else f"knows no prompt '{prompt}'"
        return [
            f"Segment Anything {said}; set prompt to 'box' (tight around the true region), "
            "'point' (deepest inside it) or 'none', the same for all models compared"
        ]
    if model_type != "sam" and prompt is not None:
        what = "a module by factory" if model_type is None else f"a '{model_type}' model"
        return [f"{what} takes no prompt, only Segment Anything does; leave prompt out"]
    return []


def read_config(path: Path) -> dict[str, Any]:
    """Read the ``config.json`` of a model's folder; CheckpointError if there is none."""
    if path.is_file():
        raise CheckpointError(
            f"{path}: a file holds weights only; name a folder with config.json, or set factory "
            "to what makes the module"
        )
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such file or folder")
    if not (path / "config.json").is_file():
        raise CheckpointError(
            f"{path}: no config.json here; if this is no model of transformers, set factory to "
            "what makes the module"
        )
    return read_json(path / "config.json", CheckpointError)
