"""Which prompts a model may complete together, so that none changes what another gets."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from qdmerge_llm.generation._cache import layers_of

_CHANGING = ("dynamic", "longrope")
"""Rotary embeddings whose frequencies follow the longest row of a batch."""


class Mixing:
    """What padding and neighbours do to a model's rows, looked at once, when it is loaded.

    A model with memory other than keys and values is never padded: what enters a state stays there,
    mask or not. Any other is tried: it completes short prompts alone, padded, and beside another.

    Args:
        model: The model, in evaluation mode.
        pad: The token for padding.
    """

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        config = model.config.to_dict()
        self._border = min(
            _borders(config, config.get("max_position_embeddings") or 0), default=math.inf
        )
        self._pads = self._neighbours = True
        if not layers_of(model, 2**62):  # else generate is not used
            rows = model.get_input_embeddings().weight.shape[0]
            long, other = ([(7 * k + first) % rows for k in range(9)] for first in (3, 5))
            alone = [_logits(model, [prompt], pad) for prompt in (long[:4], long)]
            self._neighbours = _same(alone[1], _logits(model, [long, other], pad))
            self._pads = (
                self._neighbours
                and _remembers_tokens(model)
                and _same(alone[0], _logits(model, [long[:4], long], pad))
            )

    def by_length(self, longest: int) -> bool:
        """Return whether rows of up to so many tokens must all be equally long."""
        return not self._pads or longest > self._border

    def together(self, prompts: Sequence[Collection[int]], size: int, longest: int) -> int:
        """Return how many of the next prompts, at most ``size``, may be completed together."""
        if not self._neighbours:
            return 1
        count, chosen = 1, prompts[:size]
        if not self.by_length(longest):
            return len(chosen)
        while count < len(chosen) and len(chosen[count]) == len(chosen[0]):
            count += 1
        return count


def _borders(config: Any, longest: float) -> Iterator[float]:
    """Yield the lengths from which on the frequencies of rotary embeddings change.

    Args:
        config: A configuration, or a value in one.
        longest: Where they change if it does not say.
    """
    if isinstance(config, Mapping):
        if config.get("rope_type", config.get("type")) in _CHANGING:
            yield config.get("original_max_position_embeddings") or longest
        for value in config.values():
            yield from _borders(value, longest)


def _remembers_tokens(model: PreTrainedModel) -> bool:
    """Return whether a model keeps nothing of earlier tokens but keys and values of each."""
    layers = DynamicCache(config=model.config).layers
    return not model._is_stateful and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers
    )


def _logits(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad: int
) -> torch.Tensor | None:
    """Return what :func:`_tried` does; None if the model cannot."""
    try:
        return _tried(model, prompts, pad)
    except Exception:  # of a model's own code, which may take no padding, or no batches
        return None


@torch.inference_mode()
def _tried(model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    """Return logits ``(3, tokens)`` of three new tokens of the first prompt, padded on the left."""
    device = model.get_input_embeddings().weight.device
    width = max(map(len, prompts))
    gaps = [width - len(prompt) for prompt in prompts]
    rows = [[pad] * gap + [*prompt] for gap, prompt in zip(gaps, prompts, strict=True)]
    present = [[0] * gap + [1] * (width - gap) for gap in gaps]
    told: Any = model.generate(
        input_ids=torch.tensor(rows, device=device),
        attention_mask=torch.tensor(present, device=device),
        generation_config=GenerationConfig(
            max_new_tokens=3,
            min_new_tokens=3,
            do_sample=False,
            pad_token_id=pad,
            output_logits=True,
            return_dict_in_generate=True,
        ),
    )
    return torch.stack([logits[0] for logits in told.logits])


def _same(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> bool:
    """Return whether logits are equal but for rounding."""
    if ours is None or theirs is None:
        return False
    gap = (ours - theirs).float().abs().mean()
    return bool(gap <= math.sqrt(torch.finfo(ours.dtype).eps) * ours.float().std())
