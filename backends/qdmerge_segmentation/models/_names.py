"""Live tensors under the names of the checkpoint they came from."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from qdmerge.errors import CheckpointError

try:
    from transformers.core_model_loading import revert_weight_conversion
except ImportError:  # before transformers 5 a model had the names of its checkpoint
    revert_weight_conversion = None


class CheckpointNames(torch.nn.Module):
    """A view of a model whose ``state_dict`` has the names that ``save_pretrained`` writes.

    Args:
        model: The model; the tensors are its own.
        names: The checkpoint's name of each tensor of the model.
    """

    def __init__(self, model: PreTrainedModel, names: dict[str, str]) -> None:
        super().__init__()
        self.model = model
        self._names = names

    def state_dict(self, *args: Any, **options: Any) -> Any:
        """As :meth:`torch.nn.Module.state_dict`, with the checkpoint's names."""
        state = self.model.state_dict(*args, **options)
        return {self._names[name]: tensor for name, tensor in state.items()}


def with_checkpoint_names(module: torch.nn.Module) -> torch.nn.Module:
    """What to express a checkpoint into: the module itself if the names are the same.

    Since version 5 transformers renames tensors of some models while it loads them (SegFormer,
    BEiT, Swin), and names them back when it saves.

    Raises:
        CheckpointError: If it also joins or splits tensors.
    """
    if revert_weight_conversion is None or not isinstance(module, PreTrainedModel):
        return module
    # One tensor object for each name, also where two names share a tensor.
    own = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    saved = revert_weight_conversion(module, own)
    origin = {id(tensor): name for name, tensor in own.items()}
    if not all(id(tensor) in origin for tensor in saved.values()) or len(saved) != len(own):
        raise CheckpointError(
            f"transformers keeps the tensors of {type(module).__name__} in another form than its "
            "checkpoints do; such a model cannot be merged"
        )
    names = {origin[id(tensor)]: name for name, tensor in saved.items()}
    changed = any(name != saved_name for name, saved_name in names.items())
    return CheckpointNames(module, names) if changed else module
