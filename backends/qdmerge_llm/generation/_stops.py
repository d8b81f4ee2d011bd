"""What ends a completion."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

FENCED_BLOCK = "```...```"
"""As a stop string: the end of the first fenced block, whatever its language and content."""


class Stops:
    """Finds out which rows have come to a stop string.

    Args:
        marks: The strings; at least one.
        tokenizer: The model's tokenizer.
        size: Number of logits, which may exceed the tokenizer's number of tokens.
        device: Where tokens are chosen.
    """

    def __init__(
        self,
        marks: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        size: int,
        device: torch.device,
    ) -> None:
        self._marks = tuple(marks)
        self._tokenizer = tokenizer
        # No token is shorter than a byte; a few more for special tokens in between.
        self._context = 8 + max(len(mark.encode()) for mark in marks)
        # (size,) bool: tokens whose text may hold the last character of a stop string. They are
        # decoded in pairs with themselves: alone, some lose the space at their beginning. Parts of
        # a character show as U+FFFD.
        texts = tokenizer.batch_decode([[k, k] for k in range(len(tokenizer))])[:size]
        last = {mark[-1] for mark in marks} | {"\ufffd"}
        may_end = [any(end in text for end in last) for text in texts]
        self._may_end = torch.tensor(may_end + [False] * (size - len(texts)), device=device)

    def __call__(self, chosen: torch.Tensor, written: Sequence[list[int]]) -> torch.Tensor:
        """Rows that hold a stop string.

        Args:
            chosen: ``(n,)`` tokens just added.
            written: The n rows' completions, these tokens included.

        Returns:
            ``(n,)`` bool.
        """
        stopped = torch.zeros_like(chosen, dtype=torch.bool)
        for k in self._may_end[chosen].nonzero()[:, 0].tolist():
            tail = written[k] if FENCED_BLOCK in self._marks else written[k][-self._context :]
            text = self._tokenizer.decode(tail, skip_special_tokens=True)
            stopped[k] = any(_holds(text, mark) for mark in self._marks)
        return stopped


class Endings:
    """Writes down chosen tokens, and finds out which completions they end.

    Args:
        eos: End-of-sequence tokens, which are not written down.
        limit: Most tokens of a completion.
        stops: Further ends, if any.
    """

    def __init__(self, eos: torch.Tensor, limit: int, stops: Stops | None) -> None:
        self._eos, self._limit, self._stops = eos, limit, stops

    def __call__(self, chosen: torch.Tensor, written: Sequence[list[int]]) -> torch.Tensor:
        """Writes tokens down.

        Args:
            chosen: ``(n,)`` tokens.
            written: The n completions that they go on with.

        Returns:
            ``(n,)`` bool: completions that have come to their end.
        """
        ended = torch.isin(chosen, self._eos)
        for row, token, over in zip(written, chosen.tolist(), ended.tolist(), strict=True):
            if not over:
                row.append(token)
        full = [len(row) >= self._limit for row in written]
        ended |= torch.tensor(full, device=ended.device)
        return ended | self._stops(chosen, written) if self._stops else ended


def _holds(text: str, mark: str) -> bool:
    return text.count("```") >= 2 if mark == FENCED_BLOCK else mark in text
