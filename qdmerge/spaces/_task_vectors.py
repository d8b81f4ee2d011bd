"""Task vectors: what each expert learned beyond the base, read tensor by tensor."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

from qdmerge.errors import CheckpointError
from qdmerge.spaces._compatibility import open_all

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class TaskVectors:
    """A base, its experts, and the differences ``tau_k = theta_k - theta_base`` per tensor.

    Only headers are read at first. Tensors are then loaded one at a time; nothing is kept, unless
    base and task vectors together, in float32, fit into ``memory``: then each is kept after its
    first use, on the device it was used on.

    Args:
        base: A safetensors file, or a folder with one or with shards and their index.
        experts: Checkpoints of the same architecture by name. Dtypes may differ.
        memory: Budget in bytes for keeping tensors in memory; 0 keeps none.

    Attributes:
        checkpoint: The base's checkpoint.
        experts: Names of the experts, in order.
        names: Names of all tensors, in the base's order.
        shapes: Shape of each tensor.
        resident: Whether tensors are kept in memory.

    Raises:
        CheckpointError: Everything that keeps the checkpoints from being merged, in one message.
    """

    def __init__(
        self, base: Path, experts: Mapping[str, Path], *, memory: int = 256 * 2**20
    ) -> None:
        checkpoint, self._experts, problems = open_all(base, experts)
        if problems or checkpoint is None:
            raise CheckpointError("\n- ".join(["these checkpoints cannot be merged:", *problems]))
        self.checkpoint = checkpoint
        self.experts = tuple(experts)
        self.names = tuple(checkpoint.tensors)
        self.shapes = {name: info.shape for name, info in checkpoint.tensors.items()}
        floats = sum(info.numel for info in checkpoint.tensors.values() if info.floating)
        self.resident = 4 * floats * (1 + len(self.experts)) <= memory
        self._kept: dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]] = {}
        self._constants: dict[str, torch.Tensor] = {}

    def floating(self, name: str) -> bool:
        """Whether the tensor is merged; other tensors are taken from the base."""
        return self.checkpoint.tensors[name].floating

    def dtype(self, name: str) -> torch.dtype | None:
        """The base's dtype of a floating-point tensor; None for any other."""
        return _DTYPES.get(self.checkpoint.tensors[name].dtype)

    def base(self, name: str) -> torch.Tensor:
        """The base's tensor, in its own dtype."""
        return self.checkpoint.read(name)

    def delta(self, expert: str, name: str) -> torch.Tensor:
        """``theta_expert - theta_base`` for one floating-point tensor, computed in float32."""
        return self._experts[expert].read(name).float() - self.checkpoint.read(name).float()

    def combine(
        self, name: str, weights: torch.Tensor, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """``theta_base + sum_k weights[k] tau_k`` for one tensor, as a new tensor.

        Args:
            name: The tensor. One that is not floating-point is returned as the base has it.
            weights: One weight per expert, float32, shape ``(K,)``, on the CPU.
            device: Where to compute.

        Returns:
            A float32 tensor on ``device`` that the caller may change.
        """
        if not self.floating(name):
            return self._constant(name).to(device, copy=True)
        if self.resident:
            base, deltas = self._keep(name, device)
            # (K, n) transposed is what gemv reads row after row: one pass, no temporary.
            flat = torch.addmv(base, deltas.T, weights.to(device))
            return flat.view(self.shapes[name])
        base = self.base(name).to(device).float()
        total = base.clone()
        for expert, weight in zip(self.experts, weights.tolist(), strict=True):
            if weight:  # an expert without weight is not even read
                delta = self._experts[expert].read(name).to(device).float() - base
                total.add_(delta, alpha=weight)
        return total

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the experts' names and the bytes of all weight files, in hex.

        Checkpoints of one content have one fingerprint wherever they lie. Files are hashed once
        in a process unless their size or modification time changes.
        """
        models = [("base", self.checkpoint), *self._experts.items()]
        content = [(name, [_digest_of(file) for file in model.files]) for name, model in models]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _constant(self, name: str) -> torch.Tensor:
        if name not in self._constants:
            value = self.base(name)
            if not self.resident:
                return value
            self._constants[name] = value
        return self._constants[name]

    def _keep(self, name: str, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
        """The base ``(n,)`` and the task vectors ``(K, n)`` of a tensor, float32, kept."""
        key = (name, str(device))
        if key not in self._kept:
            base = self.base(name).reshape(-1).float().clone()
            rows = [self._experts[k].read(name).reshape(-1).float() - base for k in self.experts]
            self._kept[key] = base.to(device), torch.stack(rows).to(device)
        return self._kept[key]


def _digest_of(file: Path) -> str:
    state = file.stat()
    return _digest(file.resolve(), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _digest(file: Path, _size: int, _mtime_ns: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
