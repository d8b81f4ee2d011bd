"""Batched greedy decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SHRINK = 0.5  # finished rows leave the batch once no more than this part of it is still going
_STOP_CONTEXT = 16  # tokens decoded to look for a stop string


class Generator:
    """Completes prompts with the most likely token at each step.

    A loop of its own over the model's forward: for models of a few million parameters most of the
    time of ``model.generate`` goes into bookkeeping. Same texts (a test compares them). A prompt's
    completion does not depend on the others of its batch, rounding in the last bits aside: padding
    is masked and positions count a row's own tokens.

    Args:
        model: Causal model, in evaluation mode; its weights may change between calls.
        tokenizer: Its tokenizer.
        batch_size: Prompts decoded together.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 64
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        eos = model.generation_config.eos_token_id if model.generation_config else None
        ids = [eos] if isinstance(eos, int) else list(eos or [])
        if tokenizer.eos_token_id is not None:
            ids.append(tokenizer.eos_token_id)
        self._device = model.get_input_embeddings().weight.device
        self._eos = torch.tensor(sorted(set(ids)), dtype=torch.long, device=self._device)
        self._pad = (
            tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ids or [0])[0]
        )
        self._may_end: dict[tuple[str, ...], torch.Tensor] = {}

    def __call__(
        self, prompts: Sequence[str], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[str]:
        """Completions of prompts, in order, without special tokens.

        Args:
            prompts: Texts; a completion goes on where a text ends.
            max_new_tokens: Most tokens of a completion.
            stop: Strings that end a completion as soon as it contains one; they stay in the text.
        """
        encoded: list[list[int]] = self._tokenizer(list(prompts))["input_ids"] if prompts else []
        texts = [""] * len(prompts)
        for rows in self._batches(encoded):
            tokens = self._complete([encoded[row] for row in rows], max_new_tokens, tuple(stop))
            decoded = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
            for row, text in zip(rows, decoded, strict=True):
                texts[row] = text
        return texts

    def _batches(self, encoded: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Row numbers of each batch, longest prompts first: batches hold similar lengths."""
        order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row]))
        for start in range(0, len(order), self._batch_size):
            yield order[start : start + self._batch_size]

    @torch.inference_mode()
    def _complete(
        self, prompts: Sequence[list[int]], max_new_tokens: int, stop: tuple[str, ...]
    ) -> list[list[int]]:
        """New token ids of one batch, end-of-sequence tokens excluded."""
        width = max(1, *map(len, prompts))
        padded = [[self._pad] * (width - len(prompt)) + prompt for prompt in prompts]
        present = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        tokens = torch.tensor(padded, device=self._device)
        # One mask for all steps, of which each step sees a prefix.
        mask = torch.ones(
            len(prompts), width + max_new_tokens, dtype=torch.long, device=self._device
        )
        mask[:, :width] = torch.tensor(present, device=self._device)
        position = (mask[:, :width].cumsum(-1) - 1).clamp(min=0)
        cache: Any = None  # of the model's own choice
        rows = list(range(len(prompts)))  # the prompt that each row of the batch belongs to
        finished = torch.zeros(len(rows), dtype=torch.bool, device=self._device)
        new: list[list[int]] = [[] for _ in prompts]
        for step in range(max_new_tokens):
            output = self._model(
                input_ids=tokens,
                attention_mask=mask[:, : width + step],
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            chosen = output.logits[:, -1].argmax(-1)
            ended = torch.isin(chosen, self._eos)
            for row, token, over, done in zip(
                rows, chosen.tolist(), ended.tolist(), finished.tolist(), strict=True
            ):
                if not (over or done):
                    new[row].append(token)
            finished = finished | ended
            if stop:
                finished = finished | self._stopped(chosen, rows, new, stop)
            going = len(rows) - int(finished.sum())
            if not going:
                break
            tokens, position = chosen[:, None], position[:, -1:] + 1
            if going <= _SHRINK * len(rows):
                kept = (~finished).nonzero()[:, 0]
                cache.batch_select_indices(kept)
                tokens, position, mask = tokens[kept], position[kept], mask[kept]
                rows = [rows[k] for k in kept.tolist()]
                finished = finished[kept]
        return new

    def _stopped(
        self,
        chosen: torch.Tensor,
        rows: Sequence[int],
        new: Sequence[list[int]],
        stop: tuple[str, ...],
    ) -> torch.Tensor:
        """Rows whose text holds a stop string now; decodes those whose last token may end one."""
        stopped = torch.zeros(len(rows), dtype=torch.bool, device=self._device)
        for k in self._ends(stop)[chosen].nonzero()[:, 0].tolist():
            tail = self._tokenizer.decode(new[rows[k]][-_STOP_CONTEXT:], skip_special_tokens=True)
            stopped[k] = any(mark in tail for mark in stop)
        return stopped

    def _ends(self, stop: tuple[str, ...]) -> torch.Tensor:
        """``(vocabulary,)`` bool: tokens whose text holds the last character of a stop string."""
        if stop not in self._may_end:
            size = self._model.get_output_embeddings().weight.shape[0]
            texts = self._tokenizer.batch_decode([[k] for k in range(len(self._tokenizer))])
            last = {mark[-1] for mark in stop}
            flags = [any(end in text for end in last) for text in texts[:size]]
            flags += [False] * (size - len(flags))
            self._may_end[stop] = torch.tensor(flags, device=self._device)
        return self._may_end[stop]
