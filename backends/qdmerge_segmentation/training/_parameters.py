"""Which parameters are trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qdmerge.errors import ConfigError, nearest


def check_beginnings(module: torch.nn.Module, only: Sequence[str], where: str) -> None:
    """Checks that each of some beginnings is that of a parameter's name.

    Raises:
        ConfigError: One is not; the message names the setting `where` and what is near.
    """
    names = [name for name, _ in module.named_parameters()]
    parts = [name.split(".") for name in names]
    known = {".".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)}
    for beginning in only:
        if not any(name.startswith(beginning) for name in names):
            raise ConfigError(
                f"{where}: no parameter's name begins with '{beginning}'"
                f"{nearest(beginning, sorted(known))} "
                f"They begin with {', '.join(sorted({part[0] for part in parts}))}."
            )


def choose_parameters(module: torch.nn.Module, only: Sequence[str]) -> list[torch.nn.Parameter]:
    """Freezes the parameters whose names have none of the given beginnings; () freezes none.

    Returns:
        Those that are trained. What was frozen before stays so.
    """
    for name, parameter in module.named_parameters():
        if only and not name.startswith(tuple(only)):
            parameter.requires_grad_(False)
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def train_mode(module: torch.nn.Module) -> None:
    """Training mode, but not for parts that are frozen: their statistics and outputs stay."""
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            part.eval()
