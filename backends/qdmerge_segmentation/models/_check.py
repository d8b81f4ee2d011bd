"""What keeps a model from being loaded, found without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
)

from qdmerge.errors import CheckpointError
from qdmerge.options import explain
from qdmerge.storage import read_json

Prompt = Literal["box", "point", "none"]
"""What Segment Anything is given about each image: a box, a point, or nothing."""


def _sides(value: Any) -> Any:
    """Return what stands for height and width, None if nothing does."""
    if isinstance(value, dict):
        if "height" in value and "width" in value:
            return value["height"], value["width"]
        value = value.get("shortest_edge") or value.get("longest_edge")
    if isinstance(value, list | tuple) and len(value) == 2:
        return tuple(value)
    return (value, value) if isinstance(value, int) else None


_Side = Annotated[int, Field(ge=1, le=2**15)]
Size = Annotated[tuple[_Side, _Side] | None, BeforeValidator(_sides)]
"""A size as transformers writes it: one side, two, or a dictionary; None if it is none."""

_Shift = tuple[FiniteFloat] | tuple[FiniteFloat, FiniteFloat, FiniteFloat]
_Width = Annotated[FiniteFloat, Field(gt=0)]


class Processor(BaseModel):
    """What is used of the settings that transformers writes beside a model."""

    model_config = ConfigDict(frozen=True)

    do_resize: bool | None = True
    do_rescale: bool | None = True
    do_normalize: bool | None = True
    do_flip_channel_order: bool | None = False
    size: Size = None
    rescale_factor: FiniteFloat | None = None
    image_mean: _Shift | None = None
    image_std: tuple[_Width] | tuple[_Width, _Width, _Width] | None = None


def as_size(value: Any) -> tuple[int, int] | None:
    """Read a :data:`Size`; CheckpointError if it is impossible."""
    try:
        return TypeAdapter[tuple[int, int] | None](Size).validate_python(value)
    except ValidationError:
        raise CheckpointError(f"impossible size of images: {str(value)[:80]}") from None


def read_processor(path: Path) -> Processor:
    """Read a model folder's settings of preprocessing; the defaults if it has none.

    Raises:
        CheckpointError: They cannot be used.
    """
    folder = path.parent if path.is_file() else path
    file, settings = folder / "preprocessor_config.json", None
    if file.is_file():
        settings = read_json(file, CheckpointError)
    elif (file := folder / "processor_config.json").is_file():
        settings = read_json(file, CheckpointError).get("image_processor")
    try:
        return Processor.model_validate(settings if isinstance(settings, dict) else {})
    except ValidationError as error:
        raise CheckpointError(explain(error, Processor, str(file))[0]) from None


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
        read_processor(path)
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
