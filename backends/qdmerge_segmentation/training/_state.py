"""The state of a training that is not finished: written whole or not at all."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from qdmerge.errors import RunError
from qdmerge.storage import new_folder, read_json, write_json

LOCK = "lock"
_DAMAGED = (RunError, OSError, ValueError, KeyError, TypeError, RuntimeError)
_DAMAGED_FILES = (SafetensorError, pickle.UnpicklingError, EOFError)


@dataclass
class Position:
    """How far a training is.

    Attributes:
        step: Steps done.
        losses: Losses of the steps since the last point of the curve.
        curve: Points of the validation curve.
        seconds: Time spent so far.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


class State:
    """Weights, optimizer and position in a folder, where the last ones written are kept.

    Args:
        folder: The folder.
        key: Stands for all that decides the course of the training; a state of another key is not
            continued.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key

    def save(
        self, module: torch.nn.Module, optimizer: torch.optim.Optimizer, position: Position
    ) -> None:
        """Writes a state, then removes the one before."""
        name = f"step-{position.step}"
        with new_folder(self.folder / name, self.folder / "partial") as partial:
            save_file(tensors_of(module), partial / "weights.safetensors")
            torch.save(optimizer.state_dict(), partial / "optimizer.pt")
            write_json(partial / "position.json", {"key": self._key, "position": asdict(position)})
        self._keep(name)

    def restore(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Position:
        """Reads the last state into module and optimizer; removes what cannot be continued.

        Returns:
            Where the training goes on; at its beginning if there is no state of this key.
        """
        steps = [path for path in self.folder.glob("step-*") if path.name[5:].isdigit()]
        for path in sorted(steps, key=lambda path: -int(path.name[5:])):
            try:
                facts = read_json(path / "position.json")
                if facts["key"] != self._key:
                    continue
                position = Position(**facts["position"])
                weights = load_file(path / "weights.safetensors")
                moments = torch.load(path / "optimizer.pt", weights_only=True)
            except (*_DAMAGED, *_DAMAGED_FILES):  # a power failure; training can be repeated
                continue
            module.load_state_dict(weights)
            optimizer.load_state_dict(moments)
            self._keep(path.name)
            return position
        self._keep(None)
        return Position()

    def _keep(self, name: str | None) -> None:
        for path in self.folder.glob("step-*"):
            if path.name != name:
                shutil.rmtree(path)


def tensors_of(module: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    """The ``state_dict`` as safetensors takes it: on the CPU, contiguous, nothing shared."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
