"""The decoding loop."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from qdmerge.errors import ConfigError
from qdmerge_llm.generation._cache import Slots, cache_argument, cache_of, layers_of
from qdmerge_llm.generation._mixing import Mixing
from qdmerge_llm.generation._text import Encoder, Endings, Stops, complete
from qdmerge_llm.tasks import Prompt

_JOIN = 1 / 8  # prompts join once this part of the batch is free: a few are read faster than one
_READ = 1024  # tokens of prompts read at once: more are hardly faster, and need more padding
_PREFIX = 32  # shorter common beginnings are not worth a pass of their own


class Generator:
    """Completes prompts with the most likely token at each step.

    A loop of its own over the model's forward: as rows end, the next prompts take their places,
    keys and values are written in place, and the common beginning of a call's prompts (a system
    prompt) is read once. The texts are those of greedy ``model.generate``, which completes the
    batches of models that do not allow this (``layers_of``). A prompt's completion does not depend
    on the others of its batch, rounding in the last bits aside: where padding or neighbours would
    change it, prompts of one length are decoded together, or each alone (:class:`Mixing`). Nothing
    is kept between calls.

    Args:
        model: Causal model, in evaluation mode; its weights may change between calls.
        tokenizer: Its tokenizer.
        batch_size: Prompts decoded together.
        chat_template: Jinja template of conversations; None is the tokenizer's own.

    Attributes:
        too_long: Prompts so far that were too long for the model, see :meth:`__call__`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 64,
        chat_template: str | None = None,
    ) -> None:
        self.too_long = 0
        self._encode = Encoder(tokenizer, chat_template)
        self._model = model
        self._cache_argument = cache_argument(model)
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        eos = model.generation_config.eos_token_id if model.generation_config else None
        ids = [eos] if isinstance(eos, int) else list(eos or [])
        if tokenizer.eos_token_id is not None:
            ids.append(tokenizer.eos_token_id)
        self._device = model.get_input_embeddings().weight.device
        self._eos = torch.tensor(sorted(set(ids)), dtype=torch.long, device=self._device)
        self._rows = model.get_input_embeddings().weight.shape[0]
        # A token for padding is often added to a tokenizer alone, and the model has no row for it.
        known = [tokenizer.pad_token_id, *ids, 0]
        self._pad = next(k for k in known if k is not None and 0 <= k < self._rows)
        self._mixing = Mixing(model, self._pad)
        self._stops: dict[tuple[str, ...], Stops] = {}

    def __call__(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[str]:
        """Return completions of prompts, in order, without special tokens; see :meth:`write`."""
        return [self.text(row) for _, row in self.write(prompts, max_new_tokens, stop)]

    def write(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop: Sequence[str] = ()
    ) -> list[tuple[list[int], list[int]]]:
        """Return the token ids of prompts and of their completions, in order.

        A prompt that leaves no room for ``max_new_tokens`` in the model's context is completed with
        nothing, and counted in :attr:`too_long`.

        Args:
            prompts: Texts, which a completion continues; or conversations that end with a user
                turn, where a completion is the assistant's turn.
            max_new_tokens: Most tokens of a completion.
            stop: Strings that end a completion as soon as it contains one; they stay in the text.
                :data:`FENCED_BLOCK` stands for the end of the first fenced block.

        Raises:
            ConfigError: A conversation is given, and there is no chat template, or it fails; or a
                prompt holds a token that the model has no row for.
        """
        # An empty prompt starts from padding.
        encoded = [ids or [self._pad] for ids in self._encode(prompts)]
        if beyond := sorted({k for ids in encoded for k in ids if k >= self._rows}):
            names = ", ".join(map(repr, self._tokenizer.convert_ids_to_tokens(beyond[:3])))
            raise ConfigError(
                f"a prompt holds {names}, a token of the tokenizer that the model has no row for "
                f"(id {beyond[0]}, {self._rows} rows); leave it out of prompts and chat template, "
                "or use the tokenizer that the model was trained with"
            )
        room = getattr(self._model.config, "max_position_embeddings", None)
        fits = [not room or len(ids) + max_new_tokens <= room for ids in encoded]
        self.too_long += len(fits) - sum(fits)
        written: list[tuple[list[int], list[int]]] = [(ids, []) for ids in encoded]
        asked = [k for k, fit in enumerate(fits) if fit]
        # Longest first: prompts that are read together have similar lengths.
        asked.sort(key=lambda k: -len(encoded[k]))
        endings = Endings(self._eos, max_new_tokens, self._stops_of(tuple(stop)))
        tokens = self._complete([encoded[k] for k in asked], max_new_tokens, endings)
        for k, row in zip(asked, tokens, strict=True):
            written[k] = encoded[k], row
        return written

    def text(self, tokens: list[int]) -> str:
        """Return the text of token ids, without special tokens."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    @torch.inference_mode()
    def _complete(
        self, prompts: Sequence[list[int]], max_new_tokens: int, endings: Endings
    ) -> list[list[int]]:
        """Return new token ids of each prompt (longest first) without end-of-sequence tokens."""
        if not prompts:
            return []
        size = min(self._batch_size, len(prompts))
        longest = len(prompts[0]) + max_new_tokens
        layers = 0 if self._mixing.by_length(longest) else layers_of(self._model, longest)
        if layers:
            slots = Slots(layers, size, self._device)
            return self._decode(prompts, slots, size, endings)
        new: list[list[int]] = []
        while len(new) < len(prompts):
            count = self._mixing.together(prompts[len(new) :], size, longest)
            batch = prompts[len(new) : len(new) + count]
            new += complete(self._model, batch, self._pad, max_new_tokens, endings)
        return new

    def _decode(
        self, prompts: Sequence[list[int]], slots: Slots, size: int, endings: Endings
    ) -> list[list[int]]:
        """Decode rows together; as some end, the next prompts take their places."""
        shared = self._shared(prompts)
        beginning = self._read(None, [prompts[0][:shared]])
        new: list[list[int]] = [[] for _ in prompts]
        rows: list[int] = []  # the prompt of each row
        waiting = list(range(len(prompts)))
        tokens = torch.zeros(0, dtype=torch.long, device=self._device)  # each row's next
        while rows or waiting:
            free = size - len(rows)
            if waiting and free >= _JOIN * size:
                joining, waiting = waiting[:free], waiting[free:]
                self._join(slots, beginning, [prompts[k][shared:] for k in joining], shared)
                last = torch.tensor([prompts[k][-1] for k in joining], device=self._device)
                tokens = torch.cat([tokens, last])
                rows += joining
            output = self._forward(tokens[:, None], slots, **slots.step())
            tokens = output.logits[:, -1].argmax(-1)
            ended = endings(tokens, [new[row] for row in rows])
            if ended.any():
                order = slots.leave(ended)
                tokens = tokens[order]
                rows = [rows[k] for k in order.tolist()]
        return new

    def _join(
        self,
        slots: Slots,
        beginning: DynamicCache | None,
        rests: Sequence[list[int]],
        shared: int,
    ) -> None:
        """Read the rests of prompts, longest first, but for their last tokens (the first step reads
        them); the ``shared`` tokens before are in the cache ``beginning``.
        """
        start = 0
        while start < len(rests):
            end = start + max(1, _READ // len(rests[start]))
            part = [rest[:-1] for rest in rests[start:end]]
            lengths = [shared + len(rest) for rest in part]
            slots.join(self._read(beginning, part), torch.tensor(lengths, device=self._device))
            start = end

    def _shared(self, prompts: Sequence[list[int]]) -> int:
        """Return the number of tokens that all prompts begin with; 0 if too few for a pass."""
        if len(prompts) < 2:
            return 0
        # What the first and the last in order share, all share. One token is left to each prompt.
        first, last = min(prompts), max(prompts)
        length = 0
        while length < len(first) - 1 and first[length] == last[length]:
            length += 1
        length = min(length, len(prompts[-1]) - 1)
        return length if length >= _PREFIX else 0

    def _read(
        self, beginning: DynamicCache | None, rests: Sequence[list[int]]
    ) -> DynamicCache | None:
        """Return keys and values of a beginning and the rest of each row, padded on the right.
        Padding needs no mask: no token looks at what comes after it.
        """
        cache = copy.deepcopy(beginning)
        if cache is not None:
            cache.batch_repeat_interleave(len(rests))
        width = max(map(len, rests))
        if not width:
            return cache
        padded = [rest + [self._pad] * (width - len(rest)) for rest in rests]
        output = self._forward(
            torch.tensor(padded, device=self._device),
            cache,
            # One column's logits, unused. Asked for by number and not as the last one: that makes a
            # strided view, for which torch (2.13, CPU) copies the output matrix once for each row.
            logits_to_keep=torch.zeros(1, dtype=torch.long, device=self._device),
        )
        return cache_of(output)

    def _forward(self, ids: torch.Tensor, cache: Cache | None, **options: Any) -> Any:
        """Call the model on tokens that come after what is in the cache."""
        options[self._cache_argument] = cache
        return self._model(input_ids=ids, use_cache=True, **options)

    def _stops_of(self, stop: tuple[str, ...]) -> Stops | None:
        if not stop:
            return None
        if stop not in self._stops:
            size = self._model.get_output_embeddings().weight.shape[0]
            self._stops[stop] = Stops(stop, self._tokenizer, size, self._device)
        return self._stops[stop]
