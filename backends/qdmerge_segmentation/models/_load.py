"""Any model that segments, from disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from qdmerge.errors import ConfigError
from qdmerge_segmentation.models._base import Segmenter
from qdmerge_segmentation.models._check import Prompt, model_problems, read_config
from qdmerge_segmentation.models._module import load_module
from qdmerge_segmentation.models._preprocessing import Preprocessing, as_size
from qdmerge_segmentation.models._pretrained import load_pretrained
from qdmerge_segmentation.models._sam import SamSegmenter
from qdmerge_segmentation.models._semantic import SemanticSegmenter


def load_segmenter(
    path: Path,
    *,
    image_size: int | None = None,
    prompt: Prompt | None = None,
    factory: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
) -> Segmenter:
    """Load a model in evaluation mode, with gradients.

    Images are normalized as ``preprocessor_config.json`` in the model's folder (or beside the
    file) says, or else with ImageNet's mean and standard deviation.

    Args:
        path: Folder of a transformers model; with a factory, a safetensors file or its folder.
        image_size: Side of the square that images are resized to; None for the size in
            ``preprocessor_config.json``, else in ``config.json``, else the images' own, which then
            has to be the same for all. Segment Anything's is fixed.
        prompt: For Segment Anything, and only there: "box", "point" or "none".
        factory: ``module:callable`` that makes the module when called without arguments.
        dtype: Number type that the model runs in.
        device: Where the model runs.
        trust_remote_code: Whether to run model code that lies in the folder.

    Raises:
        ConfigError: If a setting does not fit the model.
        CheckpointError: If the model cannot be loaded.
    """
    path = Path(path)
    if factory is not None:
        _refuse(model_problems(path, factory, prompt))
        module = load_module(path, factory).to(device, dtype).eval()
        return SemanticSegmenter(module, _preprocessing(path, image_size, None))
    config = read_config(path)
    _refuse(model_problems(path, None, prompt))
    sam = config["model_type"] == "sam"
    model = load_pretrained(path, config, dtype, trust_remote_code).to(device).eval()
    if not sam:
        own = getattr(model.config, "image_size", None)
        return SemanticSegmenter(model, _preprocessing(path, image_size, own))
    side = int(model.config.vision_config.image_size)
    if image_size not in (None, side):
        raise ConfigError(
            f"image_size {image_size}: this Segment Anything model takes {side} only; leave it out"
        )
    return SamSegmenter(model, Preprocessing.read(path), cast("Prompt", prompt))


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigError("\n".join(problems))


def _preprocessing(path: Path, image_size: int | None, own: Any) -> Preprocessing:
    found = Preprocessing.read(path)
    return replace(found, size=as_size(image_size) or found.size or as_size(own))
