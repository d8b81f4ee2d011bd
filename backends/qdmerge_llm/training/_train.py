"""Training one adapter: from a base and a file of conversations to a standard PEFT folder."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdmerge.errors import CheckpointError, ConfigError, RunError, nearest
from qdmerge.storage import file_digest, write_json
from qdmerge.training import unfinished
from qdmerge_llm.training._config import RECORD, LoRAConfig, is_made, is_same
from qdmerge_llm.training._data import Example, encode, plan, read_conversations

if TYPE_CHECKING:
    import torch

    from qdmerge.backend import Progress

ALL = "all-linear"


def with_adapters(model: Any, settings: LoRAConfig) -> Any:
    """Return ``model`` with float32 adapters, the only parameters that are trained; ConfigError if
    the settings name a layer that is missing or cannot be adapted.
    """
    from peft import LoraConfig, get_peft_model

    targets: str | list[str] = ALL
    if settings.targets != ALL:
        named = settings.targets
        targets = [named] if isinstance(named, str) else list(named)
        _check(model, targets)
    adapters = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
    )
    return get_peft_model(model, adapters, autocast_adapter_dtype=True)


def _check(model: torch.nn.Module, targets: Sequence[str]) -> None:
    """Check that every target is a layer that can be adapted, and merged afterwards."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds = (nn.Linear, nn.Embedding, Conv1D)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, kinds)}
    owners: dict[int, list[str]] = {}
    for name, layer in layers.items():
        owners.setdefault(id(layer.weight), []).append(name)
    alone = [names[0] for names in owners.values() if len(names) == 1]
    ends = sorted({name.rpartition(".")[2] for name in alone})
    if not targets:
        raise ConfigError(f"lora.targets is empty; give '{ALL}', or some of {', '.join(ends)}")
    for target in targets:
        found = [m for name, m in layers.items() if f".{name}".endswith(f".{target}")]
        if not target or not found:
            raise ConfigError(
                f"lora.targets: the base has no layer '{target}' that LoRA can adapt"
                f"{nearest(target, ends)} Layers: {', '.join(ends)}; or '{ALL}'"
            )
        tied = [names for m in found if len(names := owners[id(m.weight)]) > 1]
        if tied:
            raise ConfigError(
                f"lora.targets: the base ties {' and '.join(tied[0])} (tie_word_embeddings), so "
                f"an adapter of '{target}' alone could not be merged; leave it out"
            )


EXTRA = ("peft", "accelerate")
_MEASURED = ("qdmerge", "torch", "transformers", *EXTRA)


def train_lora(
    base: Path,
    data: Path,
    out: Path,
    settings: LoRAConfig,
    progress: Progress,
    checkpoint_seconds: float = 60.0,
) -> Path:
    """Train a LoRA adapter of ``base`` on conversations; ``out`` becomes a standard PEFT folder.

    Until it is whole it lies in ``OUT.training``, with a checkpoint every ``checkpoint_seconds``. A
    training that was killed resumes there and, with the same number of threads on the same kind of
    processor, ends in the same weights up to rounding. State of another base, other data or other
    settings is discarded; state of other library versions is kept, and the record names them. An
    adapter at ``out`` that was made from the same is left as it is.

    ``out`` also holds ``RECORD``: SHA-256 of base and data, number of conversations and how many
    were too long, settings, versions (and ``earlier_versions``, that began it), seconds, tokens,
    and the mean loss of the first and of the last tenth of the steps.

    Args:
        base: Folder of a transformers model with a chat template.
        data: JSON lines of ``{"messages": [{"role", "content"}, ...]}``; what assistants say is
            learned.
        out: The adapter's folder.
        settings: How it is trained.
        progress: Called with ``out``'s name, the steps done and the steps in all.
        checkpoint_seconds: Time between checkpoints.

    Raises:
        ConfigError: The extra ``train`` is not installed, a line of the data is wrong, the base
            has no chat template or lacks a layer of the settings, or ``out`` holds something else.
        CheckpointError: The base cannot be loaded.
        RunError: Another process is training ``out``, or the training diverged.
    """
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"making experts needs {' and '.join(missing)}: pip install 'qdmerge[train]'"
        )
    from qdmerge.checkpoints import weights_digest

    conversations = read_conversations(data)
    made_from = {
        "base": {"sha256": weights_digest(base)},
        "data": {"sha256": file_digest(data)},
        "settings": settings.model_dump(mode="json"),
        "versions": {name: version(name) for name in _MEASURED},
    }
    if is_made(out, made_from):
        progress(out.name, 1, 1)
        return out
    with unfinished(out, made_from, is_same) as (state, earlier):
        if is_made(out, made_from):  # by another process, before this one had the folder
            shutil.rmtree(state)
            progress(out.name, 1, 1)
            return out
        with _own_randomness():
            facts = _train(
                base, conversations, state, settings, out.name, progress, checkpoint_seconds
            )
        adapter = state / "adapter"
        record = made_from | facts | {"data": made_from["data"] | facts["data"]}
        if earlier:
            record["earlier_versions"] = earlier
        write_json(adapter / RECORD, record)
        adapter.rename(out)
        shutil.rmtree(state)
    return out


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Give back the global random states, which peft and the Trainer draw from and seed."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _train(
    base: Path,
    conversations: Sequence[Any],
    state: Path,
    settings: LoRAConfig,
    name: str,
    progress: Progress,
    checkpoint_seconds: float,
) -> dict[str, Any]:
    """Train in ``state`` and save the adapter there; return what the record says of it."""
    import torch

    from qdmerge_llm.training._trainer import LoRATrainer, Watch, last_checkpoint

    model, tokenizer = _load(base, settings)
    every = [encode(messages, tokenizer) for messages in conversations]
    examples = [example for example in every if len(example.ids) <= settings.max_length]
    if not examples:
        raise ConfigError(f"all {len(every)} conversations are longer than max_length")
    lengths = [len(example.ids) for example in examples]
    steps = plan(lengths, settings)
    torch.manual_seed(settings.seed)
    batches: list[list[Example]] = [[examples[i] for i in step] for step in steps]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    trainer = LoRATrainer(with_adapters(model, settings), batches, pad, settings, state)
    watch = Watch(state, name, progress, checkpoint_seconds)
    trainer.add_callback(watch)
    checkpoint = last_checkpoint(state)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    _refuse_divergence(trainer.model)
    trainer.model.save_pretrained(state / "adapter")
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tenth = max(1, len(losses) // 10)
    return {
        "data": {"examples": len(every), "too_long": len(every) - len(examples)},
        "steps": len(steps),
        "tokens": sum(lengths[i] for step in steps for i in step),
        "seconds": round(watch.seconds, 1),
        "loss": {
            "first": round(sum(losses[:tenth]) / tenth, 4),
            "final": round(sum(losses[-tenth:]) / tenth, 4),
        },
    }


def _refuse_divergence(model: torch.nn.Module) -> None:
    """Raise RunError for weights that are not finite; the Trainer's log omits such losses."""
    for name, weight in model.named_parameters():
        if weight.requires_grad and not weight.isfinite().all():
            raise RunError(
                f"the training diverged: {name} is not finite; lower lora.learning_rate or alpha"
            )


def _load(base: Path, settings: LoRAConfig) -> tuple[Any, Any]:
    """Return the base's model, in the type it is trained in, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from qdmerge.execution import pick_device, pick_dtype

    dtype = pick_dtype(settings.dtype, pick_device("auto"))
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{base} cannot be loaded as a language model: {error}") from error
    if tokenizer.chat_template is None:
        raise ConfigError(f"{base} has no chat template: conversations cannot be written for it.")
    return model, tokenizer
