"""Completions by transformers' own generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria

from qdmerge_llm.generation._stops import Endings


def complete(
    model: PreTrainedModel, prompts: Sequence[list[int]], pad: int, limit: int, endings: Endings
) -> list[list[int]]:
    """New token ids of one batch: greedy ``model.generate``, which knows every architecture.

    Args:
        model: The model.
        prompts: Token ids.
        pad: Token to pad with, on the left.
        limit: Most new tokens of a prompt.
        endings: What ends a completion.
    """
    device = model.get_input_embeddings().weight.device
    width = max(map(len, prompts))
    gaps = [width - len(prompt) for prompt in prompts]
    rows = [[pad] * gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]
    present = [[0] * gap + [1] * (width - gap) for gap in gaps]
    watch = _Watch(endings, len(prompts), device)
    model.generate(
        input_ids=torch.tensor(rows, device=device),
        attention_mask=torch.tensor(present, device=device),
        # All that a model's own settings could turn into another search.
        generation_config=GenerationConfig(
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            pad_token_id=pad,
        ),
        stopping_criteria=[watch],
    )
    return watch.new


class _Watch(StoppingCriteria):
    """Collects what rows go on with until they end."""

    def __init__(self, endings: Endings, count: int, device: torch.device) -> None:
        self.new: list[list[int]] = [[] for _ in range(count)]
        self._endings = endings
        self._done = torch.zeros(count, dtype=torch.bool, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        going = (~self._done).nonzero()[:, 0]
        rows = [self.new[k] for k in going.tolist()]
        self._done[going] = self._endings(input_ids[going, -1], rows)
        return self._done
