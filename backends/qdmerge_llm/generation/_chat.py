"""Prompts as token ids."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from qdmerge.errors import ConfigError
from qdmerge_llm.tasks import Prompt


class Encoder:
    """Turns prompts into token ids: texts as they are, conversations by a chat template.

    Args:
        tokenizer: The model's tokenizer.
        template: Jinja template of conversations; None is the tokenizer's own.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None) -> None:
        self._tokenizer = tokenizer
        self._template = template

    def __call__(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return token ids of each prompt.

        Raises:
            ConfigError: A conversation is given, and there is no chat template, or it fails.
        """
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
