"""What files say of models before any is loaded: shapes, records, chat templates."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from qdmerge.checkpoints import (
    OTHER_VOCABULARY,
    checkpoint_problems,
    loading_problems,
    weights_digest,
)
from qdmerge.errors import ConfigError
from qdmerge.storage import file_digest, read_json_or_empty
from qdmerge_llm import gguf
from qdmerge_llm.sources import is_gguf, is_here, resolve
from qdmerge_llm.training import RECORD, LoRAConfig, completed
from qdmerge_llm.vocabulary import chat_template, vocabulary_problems

_OTHER_NAMES = {"llama": ("mistral", "mixtral")}
"""Model types that llama.cpp files under another architecture's name."""


class Base:
    """A base model on this machine, as far as its files tell.

    Args:
        source: A directory, or a GGUF file.

    Attributes:
        folder: The base in the format of transformers; None for a GGUF file not yet converted.
        header: What such a file says of itself; None for a folder.

    Raises:
        ConfigError or CheckpointError: It is a GGUF file that cannot be read.
    """

    def __init__(self, source: str) -> None:
        path = resolve(source) if is_here(source) else Path(source).expanduser()
        self.folder = gguf.converted(path) if is_gguf(source) else path
        self.header = None if self.folder else gguf.read_header(path)

    def problems(
        self,
        experts: Mapping[str, Path],
        config_differences: Collection[str] = (),
        union: bool = False,
    ) -> list[str]:
        """Return what keeps experts on this machine from being merged on it.

        Args:
            experts: The experts.
            config_differences: Entries of ``config.json`` that they may have otherwise.
            union: Whether tokens that the base lacks are added to it.
        """
        found = checkpoint_problems(self.folder, experts, config_differences)
        if self.folder:
            tokens = vocabulary_problems(self.folder, experts, union)
            if tokens or union:  # the cause of other numbers of rows, or mended
                found = [line for line in found if OTHER_VOCABULARY not in line]
            found = tokens + found
            loading = loading_problems(self.folder, "AutoModelForCausalLM") if not found else []
            return found + [f"base: {line}" for line in loading]
        lines = {name: self._against_header(path) for name, path in experts.items()}
        return found + [
            f"expert '{name}' ({experts[name]}): {line}" for name, line in lines.items() if line
        ]

    def _against_header(self, expert: Path) -> str | None:
        """Return how a whole model differs from what the GGUF file says of itself."""
        assert self.header
        theirs = read_json_or_empty(expert / "config.json")
        ours, kind = self.header.architecture, str(theirs.get("model_type", ""))
        known = (ours, *_OTHER_NAMES.get(ours, ()))
        if kind and not any(_plain(kind).startswith(_plain(name)) for name in known):
            return f"is a '{kind}' model, the base is a '{ours}' model"
        odd = [
            f"{name} {size} -> {theirs[name]}"
            for name, size in self.header.sizes.items()
            if theirs.get(name, size) != size
        ]
        return f"has other sizes (base -> expert): {', '.join(odd)}" if odd else None

    def has_chat_template(self) -> bool:
        """Return whether its tokenizer brings a chat template."""
        if self.header:
            return self.header.chat_template
        assert self.folder
        return chat_template(self.folder) is not None


def made_otherwise(
    expert: Path, base: Base | None, training: tuple[Path, LoRAConfig] | None
) -> str | None:
    """Return how an existing adapter differs from what the current settings would produce.

    Args:
        expert: Its folder; one without a record was made elsewhere and is not compared.
        base: The base, if it can be looked at.
        training: The conversations, not compared if the file is not here, and the settings; None
            if it would not be made now.

    Returns:
        What is wrong and what to do, or None.
    """
    record = read_json_or_empty(expert / RECORD)
    found = []
    if base and base.folder and (recorded := _digest_in(record.get("base"))):
        other = recorded != weights_digest(base.folder)
        found += ["on a base of other weights"] if other else []
    if training and record:
        data, settings = training
        if data.is_file() and (recorded := _digest_in(record.get("data"))):
            other = recorded != file_digest(data)
            found += [f"from other conversations than {data} holds now"] if other else []
        changed = _other_settings(record.get("settings"), settings.model_dump(mode="json"))
        found += [f"with {', '.join(changed)}"] if changed else []
    if not found:
        return None
    advice = "remove the folder and call `qdmerge experts`, or remove its {} to keep it"
    if not training:
        advice = "name that base, or, if you are sure that it fits, remove its {}"
    return f"{expert} was made {'; '.join(found)}: {advice.format(RECORD)}"


def _other_settings(recorded: Any, now: Mapping[str, Any]) -> list[str]:
    if not isinstance(recorded, dict):
        return []
    before = completed(recorded)
    return [
        f"{name} {before[name]} instead of {value}"
        for name, value in now.items()
        if before[name] != value
    ]


def read_template(template: str) -> str:
    """Return a Jinja template that is given as its text, or as the path of a file.

    Raises:
        ConfigError: It is neither.
    """
    if "{" in template:
        return template
    try:
        return Path(template).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"chat_template '{template}' is neither the text of a Jinja template nor a file that "
            f"can be read: {error}"
        ) from error


def template_problem(template: str | None, base: Base | None, chats: list[str]) -> str | None:
    """Return what is wrong with the chat template, or None.

    Args:
        template: The setting; None for the model's own.
        base: The base, if it is here.
        chats: The tasks that ask in conversations.
    """
    if template is not None:
        try:
            return _no_template("chat_template", read_template(template))
        except ConfigError as error:
            return str(error)
    if not chats or base is None:
        return None
    if base.folder and (own := chat_template(base.folder)):
        return _no_template(f"base: the chat template of {base.folder}", own)
    if base.has_chat_template():
        return None
    return (
        f"base: its tokenizer has no chat template, and {', '.join(chats)} ask in conversations; "
        "give one as chat_template (the path of a Jinja file), or use a model made for chat"
    )


_OURS = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")  # a tag of transformers
_SEVERAL = "[{"  # how the text of a list of named templates begins


def _no_template(what: str, text: str) -> str | None:
    """Return why a text is no Jinja template, or None."""
    from jinja2 import Environment, TemplateError

    if text.startswith(_SEVERAL):
        return None
    try:
        Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_OURS.sub("", text))
    except TemplateError as error:
        line = f", line {error.lineno}" if hasattr(error, "lineno") else ""
        return f"{what} is no Jinja template{line}: {error.message}"
    return None


def _digest_in(entry: Any) -> str | None:
    digest = entry.get("sha256") if isinstance(entry, dict) else None
    return digest if isinstance(digest, str) else None


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
