"""Devices and number types by the names that settings use."""

from __future__ import annotations

import torch

from qdmerge.errors import ConfigError

_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
"""Capabilities of processors that multiply in bfloat16; the last one is of ARM."""


def pick_device(device: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU if there is one.

    Raises:
        ConfigError: torch has no such device on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(
            f"device '{device}': torch knows no such kind; use cpu or cuda"
        ) from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{device}': torch sees {torch.cuda.device_count()} GPUs; use cpu"
        )
    return chosen


def pick_dtype(name: str, device: torch.device | str = "cpu") -> torch.dtype:
    """Return the number type of a name.

    Args:
        name: Name of a type of torch, such as "float32"; "auto" is bfloat16 if the processor or
            GPU computes in it, else float32.
        device: Where the model runs.

    Raises:
        ConfigError: torch has no floating-point type of that name.
    """
    if name != "auto":
        dtype = getattr(torch, name, None)
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ConfigError(f"dtype '{name}' is no floating-point type of torch; try auto")
        return dtype
    kind = torch.device(device).type
    if kind == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # torch before 2.11 does not say; a guess could be slower.
        found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        native = kind == "cpu" and any(found.get(name) for name in _BF16)
    return torch.bfloat16 if native else torch.float32


def device_facts(device: torch.device) -> dict[str, str]:
    """Return the device and its model, for a run's log."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": str(device), "device_name": name}
