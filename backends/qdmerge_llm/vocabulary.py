"""Vocabularies of base and experts: compared by their tokenizers' files, and united."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdmerge.checkpoints import is_adapter, listing, weights_digest
from qdmerge.errors import ConfigError, Hint
from qdmerge.storage import (
    built_once,
    cache_dir,
    content_digest,
    file_digest,
    read_json,
    read_json_or_empty,
)

if TYPE_CHECKING:
    import torch

_TOKENIZER = "tokenizer.json"
_SLOW = ("tokenizer.model", "vocab.json", "vocab.txt")  # of tokenizers without that file
_VERSION = 2  # of what is built


def token_ids(folder: Path) -> dict[str, int]:
    """Return the id of each token of a model's tokenizer; {} if it brings none.

    Raises:
        ConfigError: Its files cannot be read.
    """
    if (folder / _TOKENIZER).is_file():
        content = read_json(folder / _TOKENIZER, ConfigError)
        try:
            found = content["model"]["vocab"]
            if isinstance(found, list):  # Unigram: pairs of token and score
                found = {token: number for number, (token, _) in enumerate(found)}
            added = {one["content"]: one["id"] for one in content.get("added_tokens", [])}
            return {str(token): int(number) for token, number in {**found, **added}.items()}
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise ConfigError(f"{folder / _TOKENIZER}: no tokenizer ({error!r})") from error
    slow = any((folder / name).is_file() for name in _SLOW)
    return dict(_tokenizer(folder).get_vocab()) if slow else {}


def tokens_with_rows(folder: Path, base: Path) -> dict[str, int]:
    """Return the id of each token that a model has a row for; all of the base's, if it brings no
    tokenizer. (A token for padding is often added to a tokenizer alone.)
    """
    found = token_ids(folder)
    if not found:
        return tokens_with_rows(base, base) if folder != base else {}
    config = _config(folder) if (folder / "config.json").is_file() else _config(base)  # an adapter
    rows = [part["vocab_size"] for part in config if isinstance(part.get("vocab_size"), int)]
    return {token: number for token, number in found.items() if not rows or number < rows[0]}


def _config(folder: Path) -> list[dict[str, Any]]:
    """Return a model's configuration, and those of its parts."""
    config = read_json_or_empty(folder / "config.json")
    return [config, *(part for part in config.values() if isinstance(part, dict))]


def vocabulary_problems(base: Path, experts: Mapping[str, Path], union: bool) -> list[str]:
    """Return the experts whose tokens are not those of the base.

    Args:
        base: The base's folder.
        experts: The experts' folders; one without a tokenizer has the base's.
        union: Whether all models are to be given the tokens of all.
    """
    ours, found = tokens_with_rows(base, base), []
    for name, folder in experts.items():
        theirs = tokens_with_rows(folder, base)
        whole = not is_adapter(folder)
        who = f"expert '{name}' ({folder})"
        if not ours or ours == theirs:
            continue
        if union and whole:
            if any(part.get("hidden_size_per_layer_input") for part in _config(base)):
                found.append(
                    f"{who}: its tokens are not the base's, and `vocabulary: union` is not for "
                    "models with an embedding for each layer (hidden_size_per_layer_input)"
                )
            continue
        new = [token for token in theirs if token not in ours]
        moved = [t for t in theirs if t in ours and theirs[t] != ours[t]]
        if moved:
            shown = [f"{token!r} is {ours[token]} -> {theirs[token]}" for token in moved]
            found.append(
                f"{who}: its tokenizer numbers tokens otherwise than the base's (base -> expert): "
                f"{listing(shown)}; its rows of the embedding are of other tokens. Name the base "
                "that it was trained from"
                + (", or set `vocabulary: union`, which goes by token" if whole else "")
            )
        elif new:
            first = "once the adapter is a whole model (peft's merge_and_unload), "
            found.append(
                f"{who}: its tokenizer has tokens that the base's lacks: "
                f"{listing([repr(token) for token in new])}; {'' if whole else first}"
                "`vocabulary: union` adds them to the base and the other experts"
            )
    return found


def chat_template(folder: Path) -> str | None:
    """Return the chat template of a model's tokenizer, or several as one text; None for none."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8", errors="replace")
    settings = folder / "tokenizer_config.json"
    found = read_json_or_empty(settings).get("chat_template")
    return str(found) if found else None


def tell_other_templates(base: Path, experts: Mapping[str, Path]) -> None:
    """Warn of experts that were trained with another chat template than the base's."""
    ours = chat_template(base)
    for name, folder in experts.items():
        if None not in (ours, theirs := chat_template(folder)) and theirs != ours:
            warnings.warn(
                f"expert '{name}' was trained with another chat template than the base's, which "
                "all models are asked with; give chat_template to choose one",
                Hint,
                stacklevel=2,
            )


def with_vocabulary(
    base: Path, experts: Mapping[str, Path], union: bool
) -> tuple[Path, dict[str, Path]]:
    """Return the folders of models with one vocabulary, made by :func:`united` if asked for.

    Raises:
        ConfigError: Vocabularies differ in a way that was not asked for.
    """
    if problems := vocabulary_problems(base, experts, union):
        raise ConfigError("\n".join(problems))
    return united(base, experts) if union else (base, dict(experts))


def united(base: Path, experts: Mapping[str, Path]) -> tuple[Path, dict[str, Path]]:
    """Give all models one vocabulary: the base's, then the tokens that experts added, in order.

    Rows of the embeddings go by token, whatever number a model has for it. The row of a token that
    a model lacks is the base's; where the base lacks it too, the mean of the experts that have it,
    as in mergekit (``tokenizer: {source: union}``). The models are written to the cache once, with
    a tokenizer that fits.

    Args:
        base: The base's folder.
        experts: The experts' folders; adapters must have the base's tokens.

    Returns:
        The folders; those given, if all have the same tokens.

    Raises:
        ConfigError: A whole model and an adapter are mixed, or a model cannot be read or is of
            another kind.
        RunError: The cache cannot be written.
    """
    ours = tokens_with_rows(base, base)
    ids = {name: tokens_with_rows(folder, base) for name, folder in experts.items()}
    new = list(dict.fromkeys(t for name in experts for t in ids[name] if t not in ours))
    if all(theirs == ours for theirs in ids.values()):
        return base, dict(experts)
    adapters = [name for name, folder in experts.items() if is_adapter(folder)]
    if adapters:
        raise ConfigError(
            f"`vocabulary: union` takes whole models, and {listing(adapters)} are adapters: merge "
            "them into their base (peft's merge_and_unload)"
        )
    models = {"base": base, **experts}
    digests = [[name, weights_digest(path), _files(path)] for name, path in models.items()]
    entry = cache_dir() / "vocabularies" / content_digest([_VERSION, digests])[:24]

    def build(folder: Path) -> None:
        _unite(models, {"base": ours, **ids}, new, folder)

    built = built_once(entry, build, "Models with one vocabulary")
    return built / "base", {name: built / name for name in experts}


def _files(folder: Path) -> list[list[str]]:
    texts = (file for file in sorted(folder.iterdir()) if file.suffix in (".json", ".jinja"))
    return [[file.name, file_digest(file)] for file in texts]


def _unite(
    models: Mapping[str, Path], ids: Mapping[str, Mapping[str, int]], new: list[str], out: Path
) -> None:
    """Write all models with the base's tokens and the new ones."""
    import torch

    tokenizer = _tokenizer(models["base"])
    for token in new:
        owner = next(name for name in models if token in ids[name])
        known = _tokenizer(models[owner]).added_tokens_decoder.get(ids[owner][token], token)
        tokenizer.add_tokens([known], special_tokens=getattr(known, "special", False))
    together = tokenizer.get_vocab()
    rows: dict[str, list[torch.Tensor]] = {}
    for name, folder in models.items():
        rows[name] = [weights.clone() for weights in _embeddings(_model(folder))]
        sizes, known = ([len(one) for one in rows[k]] for k in (name, "base"))
        if sizes != known:
            raise ConfigError(
                f"expert '{name}' ({folder}): its embeddings are {sizes} wide, tied layers counted "
                f"once, the base's {known}; both must be alike"
            )
    for name, folder in models.items():
        model = _model(folder)
        largest = max(one[0].shape[1] for one in rows.values())  # with rows of no token
        size = max([largest, *(together[token] + 1 for token in new)])
        model.resize_token_embeddings(size, mean_resizing=False)
        for place, weights in enumerate(_embeddings(model)):
            for owner in ("base", name):  # its own rows over those of the base
                held = [token for token in ids[owner] if token in together]
                own = [ids[owner][token] for token in held]
                weights[:, [together[token] for token in held]] = rows[owner][place][:, own]
            for token in (one for one in new if one not in ids[name]):
                donors = [k for k in models if token in ids[k]]
                known_rows = [rows[k][place][:, ids[k][token]].float() for k in donors]
                weights[:, together[token]] = torch.stack(known_rows).mean(0).to(weights.dtype)
        model.save_pretrained(out / name)
        tokenizer.save_pretrained(out / name)


def _embeddings(model: Any) -> list[Any]:
    """Return input and output embeddings, tied or not, as ``(columns, tokens)`` each; the bias of
    the output is a column.
    """
    import torch

    output = model.get_output_embeddings()
    places = [model.get_input_embeddings().weight.detach().T]
    if output is None or output.weight is model.get_input_embeddings().weight:
        return places
    places.append(output.weight.detach().T)
    if isinstance(getattr(output, "bias", None), torch.Tensor):
        places.append(output.bias.detach()[None])
    return places


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load the tokenizer in {folder}: {error}") from error


def _model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype="auto"
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot load the model in {folder}: {error}") from error
