"""Any torch module, by what makes it and a safetensors file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model

from qdmerge.errors import CheckpointError, ConfigError
from qdmerge.settings import load_target


def load_module(path: Path, factory: str) -> torch.nn.Module:
    """Make a module and load its weights; names and shapes have to agree.

    Args:
        path: A safetensors file, or a folder with ``model.safetensors`` or with a single one.
        factory: ``module:callable``; called without arguments, gives a ``torch.nn.Module``.

    Raises:
        ConfigError: If the factory cannot be imported, fails, or gives something else.
        CheckpointError: If the weights are missing, damaged or of another module.
    """
    make = load_target(factory)
    try:
        module = make()
    except Exception as error:
        raise ConfigError(f"'{factory}', called without arguments, failed: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(f"'{factory}' gives a {type(module).__name__}, not a torch.nn.Module")
    file = _weights(path)
    try:
        load_model(module, file)
    except RuntimeError as error:
        told = " ".join(str(error).split())
        raise CheckpointError(f"{file} does not fit the module of '{factory}': {told}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from error
    return module


def _weights(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.safetensors"))
    if path / "model.safetensors" in found:
        return path / "model.safetensors"
    if len(found) != 1:
        has = f"{len(found)} safetensors files" if found else "no safetensors file"
        raise CheckpointError(f"{path}: {has} here; expected model.safetensors, or name a file")
    return found[0]
