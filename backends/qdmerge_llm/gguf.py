"""GGUF files as a base: read once, kept as a plain transformers folder in qdmerge's cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdmerge.errors import CheckpointError, ConfigError
from qdmerge.storage import MANIFEST, built_once, cache_dir, file_digest

if TYPE_CHECKING:
    import torch

RECIPE = 1
"""Part of a cache entry's name: raised when the folder written from the same file changes."""


def convert(gguf_file: Path, cache: Path | None = None) -> Path:
    """Return a transformers folder with the model of a GGUF file, written on the first call.

    The folder holds the weights as safetensors, a configuration that is not flagged as
    quantized, and the tokenizer with the file's chat template, padding on the left as batched
    generation needs. Weights of type F32 and F16 keep their values. Any other type is
    dequantized and rounded to bfloat16: what the quantization lost is not restored, and the
    rounding, at most 1 part in 256 of each weight, is small beside it.

    Args:
        gguf_file: The file; its architecture must be one that transformers reads from GGUF.
        cache: Where the folder is kept, by content hash; None for qdmerge's cache.

    Raises:
        ConfigError: The package ``gguf`` is not installed.
        CheckpointError: The file cannot be read as a GGUF language model.
        RunError: The cache cannot be written.
    """
    entry = _entry(gguf_file, cache)
    return built_once(entry, lambda folder: _write(gguf_file, folder), "Models read from GGUF")


def converted(gguf_file: Path, cache: Path | None = None) -> Path | None:
    """Return the folder of :func:`convert` if an earlier call wrote it; raises the same."""
    entry = _entry(gguf_file, cache)
    return entry if (entry / MANIFEST).is_file() else None


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of its model.

    Attributes:
        architecture: As llama.cpp names it: "llama", "qwen2".
        sizes: ``hidden_size`` and ``num_hidden_layers``.
        chat_template: Whether there is one.
    """

    architecture: str
    sizes: Mapping[str, int]
    chat_template: bool


def read_header(gguf_file: Path) -> Header:
    """Read what a GGUF file says of its model; loads no torch.

    Raises:
        ConfigError: The package ``gguf`` is not installed.
        CheckpointError: The file cannot be read, or says too little.
    """
    check(gguf_file)
    from gguf import GGUFReader

    try:
        fields = GGUFReader(gguf_file).fields
        name = str(fields["general.architecture"].contents())
        sizes = {
            "hidden_size": int(fields[f"{name}.embedding_length"].contents()),
            "num_hidden_layers": int(fields[f"{name}.block_count"].contents()),
        }
    except Exception as error:  # the reader raises whatever a field of the file leads it to
        raise CheckpointError(
            f"{gguf_file} cannot be read as a GGUF language model "
            f"({type(error).__name__}: {error})."
        ) from error
    return Header(name, sizes, "tokenizer.chat_template" in fields)


def check(gguf_file: Path) -> None:
    """Check that a file begins as GGUF does, and that it can be read here.

    Raises:
        ConfigError: The package ``gguf`` is not installed.
        CheckpointError: The file is no GGUF file.
    """
    if find_spec("gguf") is None:
        raise ConfigError(
            f"{gguf_file}: reading GGUF needs the package gguf: pip install 'qdmerge[gguf]'."
        )
    try:
        with gguf_file.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise CheckpointError(f"{gguf_file} is not a GGUF file: it must begin with GGUF.")
    except OSError as error:
        raise CheckpointError(f"{gguf_file} cannot be read: {error.strerror}.") from error


def _entry(gguf_file: Path, cache: Path | None) -> Path:
    """Return where the folder of a file is kept."""
    check(gguf_file)
    return (cache or cache_dir()) / "gguf" / f"{file_digest(gguf_file)[:32]}-{RECIPE}"


def _write(gguf_file: Path, folder: Path) -> None:
    """Write the model of ``gguf_file`` to the empty ``folder`` as transformers itself would."""
    try:
        model, tokenizer = _read(gguf_file)
    # The readers raise whatever a field of the file leads them to.
    except Exception as error:
        raise CheckpointError(
            f"{gguf_file} cannot be read as a GGUF language model by transformers "
            f"({type(error).__name__}: {error})."
        ) from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _read(gguf_file: Path) -> tuple[Any, Any]:
    """Return the model, in the type it is saved in, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    where: dict[str, Any] = {
        "pretrained_model_name_or_path": gguf_file.parent,
        "gguf_file": gguf_file.name,
    }
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(padding_side="left", **where)
        loaded = AutoModelForCausalLM.from_pretrained(dtype=torch.float32, **where)
    finally:
        if shown:
            logging.enable_progress_bar()
    config = loaded.config
    # transformers refuses to save a model it counts as quantized, though these weights are not.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    dtype = _dtype(gguf_file)
    plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
    plain.load_state_dict(loaded.state_dict())
    plain.generation_config = loaded.generation_config
    return plain, tokenizer


def _dtype(gguf_file: Path) -> torch.dtype:
    """Return the type that the matrices of ``gguf_file`` are saved in."""
    import torch
    from gguf import GGUFReader

    found = {t.tensor_type.name for t in GGUFReader(gguf_file).tensors if len(t.shape) > 1}
    exact = {"F32": torch.float32, "F16": torch.float16}
    return exact.get(found.pop(), torch.bfloat16) if len(found) == 1 else torch.bfloat16
