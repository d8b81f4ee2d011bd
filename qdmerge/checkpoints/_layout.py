"""What transformers makes of a checkpoint's files: its own names, conversions and ties."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdmerge.checkpoints._checkpoint import Checkpoint, TensorInfo, findings
from qdmerge.checkpoints._parts import Layout, Part, to_files, to_live
from qdmerge.errors import CheckpointError
from qdmerge.storage import (
    cache_dir,
    content_digest,
    read_json,
    read_json_or_empty,
    write_json,
    written_once,
)

if TYPE_CHECKING:
    import torch

_VERSION = 1
"""Part of the cache key: raise it whenever other problems are found."""


def as_loaded(checkpoint: Checkpoint, like: Checkpoint | None = None) -> Checkpoint:
    """Return the checkpoint with the names and shapes of the model that transformers makes of it.

    It is returned as it is if it is none of transformers' models.

    Args:
        checkpoint: The checkpoint.
        like: The base, whose configuration counts where the checkpoint has none.
    """
    folder = checkpoint.folder if checkpoint.config() or like is None else like.folder
    if folder is None or not (folder / "config.json").is_file():
        return checkpoint
    layout = layout_of(checkpoint, folder)
    if layout is None or not layout.parts:
        return checkpoint
    infos: dict[str, TensorInfo] = {}
    by_file: dict[str, list[str]] = {}
    for name, part in layout.parts.items():
        by_file.setdefault(part.files[0], []).append(name)
    for file in checkpoint.tensors:
        for name in by_file.get(file, []):
            if name not in layout.aliases:
                infos[name] = _info(checkpoint, layout, name)
    return replace(checkpoint, tensors=infos, in_files=checkpoint.tensors, layout=layout)


def _info(checkpoint: Checkpoint, layout: Layout, name: str) -> TensorInfo:
    sources = [checkpoint.tensors[file] for file in layout.parts[name].files]
    widest = max(sources, key=lambda info: info.nbytes / max(info.numel, 1))
    shape = layout.shapes[name]
    width = widest.nbytes // widest.numel if widest.numel else 0
    return TensorInfo(sources[0].file, widest.dtype, shape, math.prod(shape) * width)


def loading_problems(folder: Path, auto: str | None = None) -> list[str]:
    """Return why transformers cannot make a whole model of a folder's files; kept in the cache.

    Args:
        folder: The folder, with ``config.json`` and weights.
        auto: The auto class of transformers that has to know the model, if any.

    Raises:
        CheckpointError: The weights are missing or damaged.
        RunError: The cache cannot be written.
    """
    checkpoint = Checkpoint.open(folder)
    headers = [[name, info.dtype, info.shape] for name, info in checkpoint.tensors.items()]
    key = content_digest([checkpoint.config(), headers, auto, version("transformers"), _VERSION])
    entry = cache_dir() / "layouts" / f"{key[:32]}.json"

    def write(file: Path) -> None:
        try:
            found = list(_layout(checkpoint, folder, auto).problems)
        except CheckpointError as error:
            found = [str(error)]
        write_json(file, {"problems": found})

    written_once(entry, write, lambda file: "problems" in read_json_or_empty(file), "Layouts")
    return list(read_json(entry)["problems"])


def layout_of(checkpoint: Checkpoint, folder: Path) -> Layout | None:
    """Return what transformers makes of the files under a folder's ``config.json``.

    None if it has no model for that configuration without code from the checkpoint.
    """
    try:
        return _layout(checkpoint, folder)
    except CheckpointError:
        return None


def _layout(checkpoint: Checkpoint, folder: Path, auto: str | None = None) -> Layout:
    try:
        from transformers import core_model_loading
    except ImportError:  # before transformers 5, models had the names of their files
        raise CheckpointError("transformers 5 is needed to tell") from None
    model, info = _build(checkpoint, folder, auto)
    state = model.state_dict()
    parts, renamed = _trace(core_model_loading, model, state, checkpoint.tensors)
    failed: list[str] = []
    shapes: dict[str, tuple[int, ...]] = {}
    whole: dict[str, Part] = {}
    for part in parts:
        meta = {file: _empty(checkpoint.tensors[file]) for file in part.files}
        try:
            live = to_live(model, part, meta.__getitem__)
            back = to_files(model, part, live)
            fits = {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in meta.items()}
        except Exception as error:
            line = str(error).strip().partition("\n")[0]
            failed.append(f"transformers cannot convert {part.live}: {line}")
            continue
        if not fits:
            failed.append(f"transformers cannot write {part.live} back as its files hold it")
        for name, tensor in live.items():
            if name in state:
                whole[name], shapes[name] = part, tuple(tensor.shape)
    aliases, apart = _ties(model, whole, checkpoint)
    unused = tuple(sorted(info["unexpected_keys"]))
    lacking = tuple(_lacking(info, model))
    return Layout(model, whole, shapes, aliases, apart, unused, renamed, lacking, tuple(failed))


def _build(checkpoint: Checkpoint, folder: Path, auto: str | None) -> tuple[Any, dict[str, Any]]:
    """Return transformers' model without values, and what it says about the files."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config, kind = _class_for(config, auto)
        layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
        if isinstance(layers, int) and len(checkpoint.tensors) < layers:
            count = len(checkpoint.tensors)
            raise CheckpointError(
                f"config.json says {layers} layers, the files hold {count} tensors"
            )
        # Without values, what is missing cannot be drawn at random; trying takes long.
        none = {"_initialize_missing_keys": lambda *_: None, "__module__": kind.__module__}
        with quiet():
            bare: Any = type(kind.__name__, (kind,), none)
            model, info = bare.from_pretrained(
                None,
                config=config,
                state_dict={name: _empty(info) for name, info in checkpoint.tensors.items()},
                device_map={"": "meta"},
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except CheckpointError:
        raise
    except Exception as error:  # no such model, or a configuration that makes none
        line = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"transformers cannot make this model: {line}") from error
    return model, info


def _class_for(config: Any, auto: str | None) -> tuple[Any, Any]:
    """Return the configuration and class that transformers' auto classes load it with."""
    import transformers
    from transformers.models.auto.auto_factory import _get_model_class

    names = [auto] if auto else ["AutoModelForCausalLM", "AutoModelForSemanticSegmentation"]
    for mapping in (getattr(transformers, name)._model_mapping for name in names):
        if type(config) in mapping:
            kind = _get_model_class(config, mapping)
            text = config.sub_configs.get("text_config")
            if text is not None and kind.config_class == text:
                config = config.get_text_config()
            return config, kind
    name = (config.architectures or [""])[0]
    if auto or not hasattr(transformers, name):
        raise CheckpointError(
            f"transformers has no {auto or 'model'} of type '{config.model_type}'; of a model for "
            "images and text, name its language part, saved by itself"
        )
    return config, getattr(transformers, name)


def _trace(
    loading: Any, model: Any, state: Mapping[str, Any], tensors: Mapping[str, TensorInfo]
) -> tuple[list[Part], Callable[[str], str]]:
    """Return the parts, in transformers' order, and the function that renames."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    transforms = get_model_conversion_mapping(model)
    renamings = [t for t in transforms if isinstance(t, loading.WeightRenaming)]
    converters = [t for t in transforms if isinstance(t, loading.WeightConverter)]
    patterns = {pattern: t for t in converters for pattern in t.source_patterns}
    rename = functools.partial(
        loading.rename_source_key,
        base_model_prefix=model.base_model_prefix,
        meta_state_dict=state,
    )
    found: dict[str, Part] = {}
    for name in sorted(tensors, key=loading.dot_natural_key):
        live, pattern = rename(name, renamings, converters)
        if live not in state and name in state:
            live, pattern = rename(name, [], [])
        if live not in state:
            continue
        if pattern is None:
            found.setdefault(live, Part(live, ((name, name),)))
        else:
            known = found.get(live, Part(live, (), patterns[pattern]))
            found[live] = replace(known, sources=(*known.sources, (name, pattern)))
    return list(found.values()), lambda name: str(rename(name, renamings, [])[0])


def _lacking(info: Mapping[str, Any], model: Any) -> Iterator[str]:
    odd = [f"{name} {tuple(file)} -> {tuple(own)}" for name, file, own in info["mismatched_keys"]]
    kind = type(model).__name__
    yield from findings(
        {
            f"lacks tensors of {kind}": sorted(info["missing_keys"]),
            f"has tensors of other shapes than config.json says for {kind}": sorted(odd),
        }
    )


def _ties(
    model: Any, parts: Mapping[str, Part], checkpoint: Checkpoint
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what is tied to a tensor of the files, and what would be if its values were."""

    def value(name: str) -> torch.Tensor:
        return to_live(model, parts[name], checkpoint.read)[name]

    aliases, apart = {}, []
    for target, source in model.all_tied_weights_keys.items():
        if target in parts and source in parts:
            ours, theirs = value(target), value(source)
            if ours.shape == theirs.shape and bool((ours == theirs).all()):
                aliases[target] = source
            else:
                apart.append(target)
        elif source in parts or target in parts:
            here, tied = (source, target) if source in parts else (target, source)
            aliases[tied] = here
    return {name: aliases.get(tied, tied) for name, tied in aliases.items()}, tuple(apart)


def _empty(info: TensorInfo) -> torch.Tensor:
    import torch

    return torch.empty(info.shape, device="meta", dtype=torch.float32 if info.floating else None)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' report on loading: what is wrong is returned."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
