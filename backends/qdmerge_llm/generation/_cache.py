"""Keys and values of rows that come and go, and how models take them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

_BLOCK = 64  # columns that the memory grows by


class Slots(Cache):
    """A cache of ``(n,)`` ``lengths``, written in place (column = position): rows join and leave.
    (``DynamicCache`` copies all at each step; ``StaticCache`` holds rows of one length.)
    """

    def __init__(self, layers: int, size: int, device: torch.device) -> None:
        self.lengths = torch.zeros(0, dtype=torch.long, device=device)
        self._layers = [_Layer(size) for _ in range(layers)]
        super().__init__(layers=self._layers)

    def join(self, read: DynamicCache | None, lengths: torch.Tensor) -> None:
        """Add rows of ``(r,)`` int64 ``lengths`` behind those in use; ``read`` holds their keys and
        values, padded on the right (None: no tokens).
        """
        first = len(self.lengths)
        if read is not None:
            for own, layer in zip(self._layers, read.layers, strict=True):
                own.put(first, layer.keys, layer.values)
        self.lengths = torch.cat([self.lengths, lengths])

    def leave(self, gone: torch.Tensor) -> torch.Tensor:
        """Remove the rows of ``(n,)`` bool ``gone``; the last ones take their places. Return the
        earlier numbers of the rows that are left, in their new order.
        """
        left = int((~gone).sum())
        order = torch.arange(left, device=gone.device)
        holes = gone[:left].nonzero()[:, 0]
        order[holes] = left + (~gone[left:]).nonzero()[:, 0]
        for layer in self._layers:
            layer.move(order[holes], holes)
        self.lengths = self.lengths[order]
        return order

    def step(self) -> dict[str, torch.Tensor]:
        """Make room for one more token in each row; return forward's positions and mask."""
        positions = self.lengths[:, None]
        self.lengths = self.lengths + 1
        width = int(self.lengths.max())
        for layer in self._layers:
            layer.at, layer.width = positions[:, 0], width
        columns = torch.arange(width, device=positions.device)
        return {"position_ids": positions, "attention_mask": (columns <= positions).long()}


class _Layer(CacheLayerMixin):
    """One layer's keys and values, each ``(size, heads, columns, head size)``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.at = torch.zeros(0, dtype=torch.long)  # the column of each row's next token
        self.width = 0  # columns in use, next tokens included
        self._size = size

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys = key_states.new_zeros(self._size, key_states.shape[1], 0, key_states.shape[3])
        self.values = value_states.new_zeros(
            self._size, value_states.shape[1], 0, value_states.shape[3]
        )
        self.is_initialized = True

    def _reserve(self, keys: torch.Tensor, values: torch.Tensor, width: int) -> None:
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        more = width - self.keys.shape[2]
        if more > 0:
            # Zeros, as even hidden columns must be numbers: 0 times NaN would show.
            padding = (0, 0, 0, -(-more // _BLOCK) * _BLOCK)
            self.keys = torch.nn.functional.pad(self.keys, padding)
            self.values = torch.nn.functional.pad(self.values, padding)

    def put(self, first: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        width = keys.shape[2]
        self._reserve(keys, values, width)
        for own, new in ((self.keys, keys), (self.values, values)):
            own[first : first + len(new), :, :width] = new
            own[first : first + len(new), :, width:] = 0

    def move(self, rows: torch.Tensor, to: torch.Tensor) -> None:
        if self.is_initialized and len(rows):
            self.keys[to] = self.keys[rows]
            self.values[to] = self.values[rows]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._reserve(key_states, value_states, self.width)
        count = len(self.at)
        rows = torch.arange(count, device=self.at.device)
        self.keys[rows, :, self.at] = key_states[:, :, 0]
        self.values[rows, :, self.at] = value_states[:, :, 0]
        return self.keys[:count, :, : self.width], self.values[:count, :, : self.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.width, 0

    def get_seq_length(self) -> int:
        # The next tokens stand in the last column as far as a causal mask goes.
        return self.width - 1

    def get_max_length(self) -> int:
        return -1


def layers_of(model: PreTrainedModel, length: int) -> int:
    """Return the layers of a model that :class:`Slots` serves for rows of ``length``, 0 if none: it
    must take any layout of columns (as for ``StaticCache``), and all layers must see whole rows.
    """
    if (
        not model._can_compile_fullgraph
        or "position_ids" not in inspect.signature(type(model).forward).parameters
    ):
        return 0
    layers = DynamicCache(config=model.config).layers
    plain = all(
        type(layer) is DynamicLayer
        or (type(layer) is DynamicSlidingWindowLayer and length <= layer.sliding_window)
        for layer in layers
    )
    return len(layers) if plain else 0


def cache_argument(model: Any) -> str:
    """Return the name by which a model's forward takes keys and values.

    ``cache``, or ``past_key_values`` where the architecture or transformers is older (before 5.24).

    Args:
        model: A model of transformers, or one of peft around it.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return _cache_argument(type(base).forward)


@functools.cache
def _cache_argument(forward: Callable[..., Any]) -> str:
    known = inspect.signature(forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def cache_of(output: Any) -> Any:
    """Return the keys and values in what a model's forward returned."""
    return output.cache if hasattr(output, "cache") else output.past_key_values
