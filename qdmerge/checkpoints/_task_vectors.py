"""Task vectors: the differences between experts and base, read tensor by tensor."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from qdmerge.checkpoints._adapter import RECORD, Adapter, Added, LowRank
from qdmerge.checkpoints._checkpoint import as_matrix, weights_digest
from qdmerge.checkpoints._experts import FullExpert, open_all
from qdmerge.errors import CheckpointError
from qdmerge.storage import content_digest, file_digest

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_COMPANIONS = (".jinja", ".json", ".model", ".py", ".txt")


class TaskVectors:
    """A base, its experts, and the differences ``tau_k = theta_k - theta_base`` per tensor.

    Experts are whole checkpoints or LoRA adapters as peft saves them, mixed freely. An adapter's
    task vectors are used as products of two thin factors; tensors that it does not change are not
    read.

    Only headers are read at first. Tensors are loaded one at a time. If base and task vectors
    together, in float32, fit into ``memory``, each is kept after its first use, on the device it
    was used on; adapters' factors are kept if they alone fit.

    Args:
        base: A safetensors file, or a folder with one or with shards and their index.
        experts: By name, checkpoints of the same architecture, or folders of LoRA adapters. Dtypes
            may differ.
        memory: Budget in bytes for keeping tensors in memory; 0 keeps none.
        config_differences: Entries of ``config.json`` that experts may have otherwise than the
            base, although the forward pass uses them.

    Attributes:
        checkpoint: The base's checkpoint.
        experts: Names of the experts, in order.
        adapters: The adapters among the experts, by name.
        names: Names of all tensors, in the base's order: those of the live model that transformers
            makes of the base's files, or the files' own.
        shapes: Shape of each tensor.
        memory: The budget.
        resident: Whether tensors are kept in memory.

    Raises:
        CheckpointError: Everything that prevents merging the models, in one message.
    """

    def __init__(
        self,
        base: Path,
        experts: Mapping[str, Path],
        *,
        memory: int = 256 * 2**20,
        config_differences: Collection[str] = (),
    ) -> None:
        checkpoint, self._experts, problems = open_all(base, experts, config_differences)
        self.adapters = {k: e for k, e in self._experts.items() if isinstance(e, Adapter)}
        if not problems and checkpoint is not None:
            problems = _of_another_base(checkpoint.path, self.adapters)
        if problems or checkpoint is None:
            raise CheckpointError("\n- ".join(["these checkpoints cannot be merged:", *problems]))
        self.checkpoint = checkpoint
        self.experts = tuple(experts)
        self.names = tuple(checkpoint.tensors)
        self.shapes = {name: info.shape for name, info in checkpoint.tensors.items()}
        self.memory = memory
        factors, dense = self._floats()
        self.resident = 4 * (factors + dense) <= memory
        self._keep_factors = 4 * factors <= memory
        self._kept: dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor | None]] = {}
        self._kept_factors: dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]] = {}
        self._constants: dict[str, torch.Tensor] = {}
        self._alike: dict[tuple[str, str], bool] = {}

    def floating(self, name: str) -> bool:
        """Return whether the tensor is merged; other tensors are the base's."""
        return self.checkpoint.tensors[name].floating

    def is_changed(self, name: str) -> bool:
        """Return whether any expert can differ from the base in this tensor."""
        return self.floating(name) and any(self.rank(k, name) for k in self.experts)

    def rank(self, expert: str, name: str) -> int:
        """Return the highest rank that an expert's task vector can have in a floating-point tensor.

        0 if an adapter does not change the tensor, the adapter's rank if LoRA changes it, else the
        shorter side of the tensor as a matrix (1 for a tensor of one or no dimension).
        """
        shape = self.shapes[name]
        whole = min(as_matrix(shape)) if len(shape) >= 2 else 1
        model = self._experts[expert]
        if isinstance(model, FullExpert):
            return whole
        change = model.changes.get(name)
        if change is None:
            return 0
        return min(change.rank, whole) if isinstance(change, LowRank) else whole

    def are_alike(self, first: str, second: str) -> bool:
        """Return whether two tensors are one in every model: of the same values throughout."""
        key = (first, second)
        if first != second and key not in self._alike:
            self._alike[key] = torch.equal(self.base(first), self.base(second)) and all(
                torch.equal(*(self.delta(expert, name) for name in key)) for expert in self.experts
            )
        return first == second or self._alike[key]

    def dtype(self, name: str) -> torch.dtype | None:
        """Return the base's dtype of a floating-point tensor; None for any other."""
        return DTYPES.get(self.checkpoint.tensors[name].dtype)

    @functools.cached_property
    def dtypes(self) -> dict[str, str]:
        """The dtypes of the base's and every expert's weights.

        For instance ``{"base": "bfloat16", "coding": "bfloat16, float32"}``. All are merged in
        float32 and written in the base's.
        """
        experts = {name: expert.checkpoint for name, expert in self._experts.items()}
        found = {}
        for name, checkpoint in {"base": self.checkpoint, **experts}.items():
            kinds = {DTYPES[info.dtype] for info in checkpoint.tensors.values() if info.floating}
            found[name] = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        return found

    def base(self, name: str) -> torch.Tensor:
        """Return the base's tensor, in its own dtype."""
        return self.checkpoint.read(name)

    def delta(self, expert: str, name: str) -> torch.Tensor:
        """Return ``theta_expert - theta_base`` of one floating-point tensor, in float32."""
        factors = self.factors(expert, name)
        if factors is not None:
            return (factors[0] @ factors[1]).view(self.shapes[name])
        if not self.rank(expert, name):
            return torch.zeros(self.shapes[name])
        return self._dense(expert, name, self.checkpoint.read(name).float())

    def factors(self, expert: str, name: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return an expert's task vector as ``left @ right``, ``(m, r)`` and ``(r, n)``, float32.

        ``m x n`` is the tensor viewed as (first dimension) x (all others). None if the task vector
        is no such product: a whole checkpoint, a tensor trained as a whole or not at all.
        """
        model = self._experts[expert]
        change = model.changes.get(name) if isinstance(model, Adapter) else None
        if not isinstance(model, Adapter) or not isinstance(change, LowRank):
            return None
        left, right = model.factors(change)
        _finite(left.norm() * right.norm(), expert, name)  # bounds every value of the product
        return left, right

    def combine(
        self, name: str, weights: torch.Tensor, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """Return ``theta_base + sum_k weights[k] tau_k`` of one tensor, as a new tensor.

        Differentiable with respect to ``weights``; see :meth:`inner_products`.

        Args:
            name: The tensor. One that is not floating-point is the base's.
            weights: One weight per expert, float32, shape ``(K,)``, on the CPU.
            device: Where to compute.

        Returns:
            A float32 tensor on ``device`` that the caller may change.
        """
        if torch.is_grad_enabled() and weights.requires_grad:
            return _Combination.apply(weights, self, name, device)
        if not self.floating(name):
            return self._constant(name).to(device, copy=True)
        total = self._combine_dense(name, weights, device)
        changes = self._low_rank(name)
        chosen = weights[list(changes)]
        if chosen.any():
            columns = torch.tensor([change.rank for change in changes.values()])
            left, right = self._all_factors(name, device)
            spread = chosen.repeat_interleave(columns).to(device)
            total.view(as_matrix(self.shapes[name])).addmm_(left * spread, right)
        return total

    def inner_products(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        """Return ``<tau_k, gradient>`` for every expert: the pullback of :meth:`combine`.

        Task vectors of whole checkpoints are read one at a time; of adapters, the thin factors are
        used.

        Args:
            name: A floating-point tensor.
            gradient: Gradient of the merged tensor, float32, of its shape.

        Returns:
            ``(K,)`` float32, on the CPU.
        """
        device = gradient.device
        found = torch.zeros(len(self.experts), device=device)
        dense = self._dense_experts(name)
        if dense and self.resident:
            _, deltas = self._keep(name, device)
            assert deltas is not None
            found[dense] = deltas @ gradient.reshape(-1)
        elif dense:
            base = self.base(name).to(device, torch.float32)
            for k in dense:
                delta = self._dense(self.experts[k], name, base)
                found[k] = torch.dot(delta.reshape(-1), gradient.reshape(-1))
        if changes := self._low_rank(name):
            left, right = self._all_factors(name, device)
            matrix = gradient.reshape(as_matrix(self.shapes[name]))
            products = ((matrix @ right.T) * left).sum(dim=0)
            parts = products.split([change.rank for change in changes.values()])
            found[list(changes)] = torch.stack([part.sum() for part in parts])
        return found.cpu()

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the experts' names and the bytes of all files that decide them, in hex.

        These are the weight files, and of an adapter its configuration too. Paths do not matter.
        Files are hashed once in a process unless their size or modification time changes.
        """
        models = [("base", self.checkpoint), *self._experts.items()]
        return content_digest([(name, [*map(file_digest, model.files)]) for name, model in models])

    @functools.cached_property
    def companions(self) -> str:
        """SHA-256 over the small files beside the base's weights, in hex.

        Configuration, tokenizer, chat template, preprocessing, code: they decide what a model
        receives and how it computes.
        """
        folder = self.checkpoint.path
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        small = [file for file in files if file.suffix in _COMPANIONS]
        return content_digest([[file.name for file in small], [*map(file_digest, small)]])

    def _combine_dense(
        self, name: str, weights: torch.Tensor, device: torch.device | str
    ) -> torch.Tensor:
        """Merge the base and the experts whose task vectors are no products, as a new tensor."""
        dense = self._dense_experts(name)
        if self.resident:
            base, deltas = self._keep(name, device)
            if deltas is None:
                return base.view(self.shapes[name]).clone()
            # gemv reads (K, n) transposed row after row: one pass, no temporary.
            flat = torch.addmv(base, deltas.T, weights[dense].to(device))
            return flat.view(self.shapes[name])
        total = self.base(name).to(device, torch.float32, copy=True)
        used = [k for k in dense if weights[k]]  # an expert of weight 0 is not even read
        base = total.clone() if used else total
        for k in used:
            total.add_(self._dense(self.experts[k], name, base), alpha=float(weights[k]))
        return total

    def _dense_experts(self, name: str) -> list[int]:
        """Return positions of the experts that change a tensor, and not by a product of factors."""
        products = self._low_rank(name)
        numbered = enumerate(self.experts)
        return [k for k, expert in numbered if k not in products and self.rank(expert, name)]

    def _dense(self, expert: str, name: str, base: torch.Tensor) -> torch.Tensor:
        """Return the task vector of one of them, on the device of ``base`` (float32)."""
        model = self._experts[expert]
        if isinstance(model, FullExpert):
            delta = model.read(name).to(base.device).float() - base
        else:
            change = model.changes[name]
            assert not isinstance(change, LowRank)
            value = model.checkpoint.read(change.tensor).to(base.device).float()
            delta = change.scale * value if isinstance(change, Added) else value - base
        return _finite(delta, expert, name)

    def _low_rank(self, name: str) -> dict[int, LowRank]:
        """Return the experts, by position, whose task vectors of a tensor are products."""
        found = {}
        for k, expert in enumerate(self.experts):
            model = self._experts[expert]
            change = model.changes.get(name) if isinstance(model, Adapter) else None
            if isinstance(change, LowRank):
                found[k] = change
        return found

    def _all_factors(
        self, name: str, device: torch.device | str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the factors of all these experts side by side."""
        key = (name, str(device))
        found = self._kept_factors.get(key)
        if found is None:
            pairs = [self.factors(self.experts[k], name) for k in self._low_rank(name)]
            lefts, rights = zip(*(pair for pair in pairs if pair is not None), strict=True)
            found = torch.cat(lefts, dim=1).to(device), torch.cat(rights, dim=0).to(device)
            if self._keep_factors:
                self._kept_factors[key] = found
        return found

    def _floats(self) -> tuple[int, int]:
        """Return the sizes of all adapters' factors, and of the base and all other task vectors."""
        factors = dense = 0
        for name in filter(self.floating, self.names):
            numel = self.checkpoint.tensors[name].numel
            dense += numel * (1 + len(self._dense_experts(name)))
            ranks = sum(change.rank for change in self._low_rank(name).values())
            factors += ranks * sum(as_matrix(self.shapes[name])) if ranks else 0
        return factors, dense

    def _constant(self, name: str) -> torch.Tensor:
        if name not in self._constants:
            value = self.base(name)
            if not self.resident:
                return value
            self._constants[name] = value
        return self._constants[name]

    def _keep(
        self, name: str, device: torch.device | str
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the base ``(n,)`` and dense task vectors ``(K', n)`` of a tensor; keep them."""
        key = (name, str(device))
        if key not in self._kept:
            base = self.base(name).float().clone()
            dense = [self._dense(self.experts[k], name, base) for k in self._dense_experts(name)]
            rows = torch.stack([delta.reshape(-1) for delta in dense]).to(device) if dense else None
            self._kept[key] = base.reshape(-1).to(device), rows
        return self._kept[key]


class _Combination(torch.autograd.Function):
    """:meth:`TaskVectors.combine` with its gradient, without task vectors in the graph."""

    @staticmethod
    def forward(
        ctx: Any, weights: torch.Tensor, vectors: TaskVectors, name: str, device: Any
    ) -> torch.Tensor:
        ctx.vectors, ctx.name = vectors, name
        return vectors.combine(name, weights.detach(), device)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        return ctx.vectors.inner_products(ctx.name, gradient), None, None, None


def _finite(values: torch.Tensor, expert: str, name: str) -> torch.Tensor:
    """Return them, or raise: times a weight of 0 they would spoil other models."""
    if not values.isfinite().all():
        raise CheckpointError(f"expert {expert!r} differs from the base infinitely in {name}")
    return values


def _of_another_base(base: Path, adapters: Mapping[str, Adapter]) -> list[str]:
    """Return problems of adapters whose recorded base has another digest."""
    problems = []
    for name, adapter in adapters.items():
        recorded = adapter.recorded_base()
        if recorded is not None and recorded != weights_digest(base):
            problems.append(
                f"expert {name!r} ({adapter.folder}): was trained on a base of other weights: its "
                f"{RECORD} says {recorded[:12]}..., {base} is {weights_digest(base)[:12]}...; name "
                "that base, remove the adapter's folder and run `qdmerge experts` again, or, if "
                f"you are sure that it fits, remove {RECORD} from it"
            )
    return problems
