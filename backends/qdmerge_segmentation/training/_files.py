"""What a training leaves on disk: the state of an unfinished one, and the finished model."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from qdmerge.errors import RunError
from qdmerge.storage import new_folder, read_json, write_json
from qdmerge_segmentation.models import Segmenter, UNetConfig, UNetForSemanticSegmentation
from qdmerge_segmentation.training._plan import Model, Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS = "model.safetensors"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_UNET_PROCESSOR = {
    "image_processor_type": "SegformerImageProcessor",
    "do_resize": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "do_reduce_labels": False,
}
_DAMAGED = (
    *(RunError, OSError, ValueError, KeyError, TypeError, RuntimeError),
    *(SafetensorError, pickle.UnpicklingError, EOFError),
)


@dataclass
class Position:
    """How far a training is: steps done, losses since the last point of the validation curve, its
    points, and seconds spent.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


def save_state(
    folder: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> None:
    """Write weights, optimizer and position, then remove the state before."""
    name = f"step-{position.step}"
    with new_folder(folder / name, folder / "partial") as partial:
        save_file(tensors_of(module), partial / "weights.safetensors")
        torch.save(optimizer.state_dict(), partial / "optimizer.pt")
        write_json(partial / "position.json", asdict(position))
    _remove_states(folder, but=name)


def restore_state(
    folder: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> Position:
    """Read the last intact state into module and optimizer; return where the training resumes."""
    steps = [path for path in folder.glob("step-*") if path.name[5:].isdigit()]
    for path in sorted(steps, key=lambda path: -int(path.name[5:])):
        try:
            position = Position(**read_json(path / "position.json"))
            weights = load_file(path / "weights.safetensors")
            moments = torch.load(path / "optimizer.pt", weights_only=True)
        except _DAMAGED:  # by a power failure; the steps can be repeated
            continue
        module.load_state_dict(weights)
        optimizer.load_state_dict(moments)
        _remove_states(folder, but=path.name)
        return position
    _remove_states(folder, but="")
    return Position()


def _remove_states(folder: Path, but: str) -> None:
    for path in folder.glob("step-*"):
        if path.name != but:
            shutil.rmtree(path)


def tensors_of(module: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    """Copy the ``state_dict`` as safetensors takes it: on the CPU, contiguous, nothing shared."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }


def write_unet(folder: Path, seed: int) -> Path:
    """Write a new U-Net with its image processor."""
    torch.manual_seed(seed)  # transformers draws initial weights from the global generator
    UNetForSemanticSegmentation(UNetConfig()).save_pretrained(folder)
    (folder / _PROCESSORS[0]).write_text(json.dumps(_UNET_PROCESSOR, indent=2) + "\n")
    return folder


def save_model(segmenter: Segmenter, start: Path, plan: Plan, folder: Path) -> Path:
    """Write a model in the format of its start into a folder that is emptied first: one by factory
    as ``model.safetensors``, one of transformers with the start's image processor and code.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if plan.factory is None:
        cast("PreTrainedModel", segmenter.module).save_pretrained(folder)
    else:
        save_file(tensors_of(segmenter.module), folder / WEIGHTS, metadata={"format": "pt"})
    beside = start if start.is_dir() else start.parent
    for name in _PROCESSORS:
        if (beside / name).is_file():
            text = _with_size((beside / name).read_text(encoding="utf-8"), plan.image_size)
            (folder / name).write_text(text, encoding="utf-8")
    if plan.factory is None:
        for code in beside.glob("*.py"):
            if not (folder / code.name).exists():
                shutil.copyfile(code, folder / code.name)
    return folder


def _with_size(text: str, side: int | None) -> str:
    """Return an image processor's settings with the square that the model was trained on."""
    if side is None:
        return text
    settings = json.loads(text)
    processor = settings.get("image_processor", settings)
    processor |= {"do_resize": True, "size": {"height": side, "width": side}}
    return json.dumps(settings, indent=2) + "\n"


def publish(made: Path, model: Model) -> None:
    """Move a complete model from a folder to its place; the weights appear last."""
    for weights in made.glob("*.safetensors"):
        # Weights are written for their owner alone; other files follow the user's umask.
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
