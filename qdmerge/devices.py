"""Where models run: the device that a setting names."""

from __future__ import annotations

import torch

from qdmerge.errors import ConfigError


def pick_device(device: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one.

    Raises:
        ConfigError: torch has no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{device}': torch sees {torch.cuda.device_count()} GPUs; use cpu"
        )
    return chosen


def device_facts(device: torch.device) -> dict[str, str]:
    """The device and its model, for a run's log."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": str(device), "device_name": name}
