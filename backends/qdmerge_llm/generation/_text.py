"""Text and tokens: prompts as token ids, what ends a completion, and plain completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)

from qdmerge.errors import ConfigError
from qdmerge_llm.tasks import Prompt


class Encoder:
    """Turns prompts into token ids: texts as they are, conversations by a chat template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None) -> None:
        self._tokenizer = tokenizer
        self._template = template

    def __call__(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return token ids of each prompt; ConfigError for a chat without a working template."""
        encoded: list[list[int]] = [[] for _ in prompts]
        # A template writes the special tokens of a conversation itself.
        for chat in (False, True):
            rows = [k for k, prompt in enumerate(prompts) if isinstance(prompt, str) != chat]
            if rows:
                texts = [self._render(prompts[k]) for k in rows]
                ids = self._tokenizer(texts, add_special_tokens=not chat)["input_ids"]
                for row, tokens in zip(rows, ids, strict=True):
                    encoded[row] = tokens
        return encoded

    def _render(self, prompt: Prompt) -> str:
        """Return the text of a prompt."""
        if isinstance(prompt, str):
            return prompt
        if self._template is None and not self._tokenizer.chat_template:
            raise ConfigError(
                f"the tokenizer of {self._tokenizer.name_or_path or 'the model'} has no chat "
                "template, and the task asks in conversations; give one as chat_template (the path "
                "of a Jinja file or its text), or use a model made for chat"
            )
        try:
            return self._tokenizer.apply_chat_template(
                list(prompt),
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=False,
            )
        except TemplateError as error:
            raise ConfigError(f"the chat template does not take a conversation: {error}") from error


FENCED_BLOCK = "```...```"
"""As a stop string: the end of the first fenced block, whatever its language and content."""


class Stops:
    """Finds the rows that have come to a stop string, among ``size`` logits of a model."""

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
        """Return ``(n,)`` bool: rows that hold a stop string, now that the ``(n,)`` tokens
        ``chosen`` are added to the n completions ``written``.
        """
        stopped = torch.zeros_like(chosen, dtype=torch.bool)
        for k in self._may_end[chosen].nonzero()[:, 0].tolist():
            tail = written[k] if FENCED_BLOCK in self._marks else written[k][-self._context :]
            text = self._tokenizer.decode(tail, skip_special_tokens=True)
            stopped[k] = any(_holds(text, mark) for mark in self._marks)
        return stopped


class Endings:
    """Appends chosen tokens to completions, and finds those that end: at a token of ``eos`` (which
    is not appended), at ``limit`` tokens, or at a stop.
    """

    def __init__(self, eos: torch.Tensor, limit: int, stops: Stops | None) -> None:
        self._eos, self._limit, self._stops = eos, limit, stops

    def __call__(self, chosen: torch.Tensor, written: Sequence[list[int]]) -> torch.Tensor:
        """Append the ``(n,)`` tokens to the n completions; return ``(n,)`` bool: those that end."""
        ended = torch.isin(chosen, self._eos)
        for row, token, over in zip(written, chosen.tolist(), ended.tolist(), strict=True):
            if not over:
                row.append(token)
        full = [len(row) >= self._limit for row in written]
        ended |= torch.tensor(full, device=ended.device)
        return ended | self._stops(chosen, written) if self._stops else ended


def _holds(text: str, mark: str) -> bool:
    return text.count("```") >= 2 if mark == FENCED_BLOCK else mark in text


def complete(
    model: PreTrainedModel, prompts: Sequence[list[int]], pad: int, limit: int, endings: Endings
) -> list[list[int]]:
    """Return new token ids, at most ``limit``, of one batch, by greedy ``model.generate`` (any
    architecture). Pads on the left with ``pad``.
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
    """Collects the tokens of rows until they end."""

    def __init__(self, endings: Endings, count: int, device: torch.device) -> None:
        self.new: list[list[int]] = [[] for _ in range(count)]
        self._endings = endings
        self._done = torch.zeros(count, dtype=torch.bool, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        going = (~self._done).nonzero()[:, 0]
        rows = [self.new[k] for k in going.tolist()]
        self._done[going] = self._endings(input_ids[going, -1], rows)
        return self._done
