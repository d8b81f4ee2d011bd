"""Models on disk: what a training starts from, and what it leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import save_file

from qdmerge_segmentation.models import Segmenter, UNetConfig, UNetForSemanticSegmentation
from qdmerge_segmentation.training._state import tensors_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from qdmerge_segmentation.config import SegmentationConfig
    from qdmerge_segmentation.training._plan import Model

WEIGHTS = "model.safetensors"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_OWN_SIZE: dict[str, Any] = {
    "image_processor_type": "SegformerImageProcessor",
    "do_resize": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "do_reduce_labels": False,
}


def write_unet(folder: Path, seed: int) -> Path:
    """Writes a new U-Net, with the image processor that it is to be used with."""
    torch.manual_seed(seed)  # transformers draws initial weights from the global generator
    UNetForSemanticSegmentation(UNetConfig()).save_pretrained(folder)
    (folder / _PROCESSORS[0]).write_text(json.dumps(_OWN_SIZE, indent=2) + "\n")
    return folder


def save_model(segmenter: Segmenter, start: Path, config: SegmentationConfig, folder: Path) -> Path:
    """Writes a model in the format of its start.

    A module by factory becomes ``model.safetensors``; a model of transformers becomes what
    ``save_pretrained`` makes of it, with the start's image processor and code.

    Args:
        segmenter: The model.
        start: The folder or file it was loaded from.
        config: Gives factory and image size.
        folder: Where to; what is there is removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if config.factory is None:
        cast("PreTrainedModel", segmenter.module).save_pretrained(folder)
    else:
        save_file(tensors_of(segmenter.module), folder / WEIGHTS, metadata={"format": "pt"})
    beside = start if start.is_dir() else start.parent
    for name in _PROCESSORS:
        if (beside / name).is_file():
            text = _with_size((beside / name).read_text(encoding="utf-8"), config.image_size)
            (folder / name).write_text(text, encoding="utf-8")
    if config.factory is None:
        for code in beside.glob("*.py"):
            if not (folder / code.name).exists():
                shutil.copyfile(code, folder / code.name)
    return folder


def _with_size(text: str, side: int | None) -> str:
    """An image processor's settings that resize to the square the model was trained on."""
    if side is None:
        return text
    settings = json.loads(text)
    processor = settings.get("image_processor", settings)
    processor |= {"do_resize": True, "size": {"height": side, "width": side}}
    return json.dumps(settings, indent=2) + "\n"


def publish(made: Path, model: Model) -> None:
    """Moves a complete model, made in a folder, to its place; the weights appear last."""
    for weights in made.glob("*.safetensors"):
        # They are written for their owner alone; what else is here is as the user's umask says.
        weights.chmod((made / model.record.name).stat().st_mode)
    model.target.parent.mkdir(parents=True, exist_ok=True)
    if model.is_file:
        for file in made.iterdir():
            if file.name != WEIGHTS:
                file.replace(model.target.with_name(file.name))
        (made / WEIGHTS).replace(model.target)
        return
    if model.target.is_dir():
        model.target.rmdir()  # an empty one
    made.replace(model.target)
