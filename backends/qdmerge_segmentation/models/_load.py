"""Loading any model that segments: of transformers, or a torch module by factory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_model
from transformers import AutoConfig, AutoModelForSemanticSegmentation, SamModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from qdmerge.errors import CheckpointError, ConfigError, nearest
from qdmerge.parts import load_target
from qdmerge_segmentation.models._check import Prompt, as_size, model_problems, read_config
from qdmerge_segmentation.models._preprocessing import Preprocessing
from qdmerge_segmentation.models._sam import SamSegmenter
from qdmerge_segmentation.models._segmenter import Segmenter, SemanticSegmenter
from qdmerge_segmentation.models.modeling_unet import UNetConfig, UNetForSemanticSegmentation

# The U-Net needs no code from its checkpoint where qdmerge is installed.
AutoConfig.register(UNetConfig.model_type, UNetConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(UNetConfig, UNetForSemanticSegmentation, exist_ok=True)


def load_segmenter(
    path: Path,
    *,
    image_size: int | None = None,
    prompt: Prompt | None = None,
    factory: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
) -> Segmenter:
    """Load a model in evaluation mode, with gradients.

    Images are normalized as ``preprocessor_config.json`` in the model's folder (or beside the
    file) says, or else with ImageNet's mean and standard deviation.

    Args:
        path: Folder of a transformers model; with a factory, a safetensors file or its folder.
        image_size: Side of the square that images are resized to; None for the size in
            ``preprocessor_config.json``, else in ``config.json``, else the images' own, which must
            then be the same for all. Segment Anything's is fixed.
        prompt: For Segment Anything only: "box", "point" or "none".
        factory: ``module:callable`` that makes the module when called without arguments.
        dtype: Number type that the model runs in.
        device: Where the model runs.
        trust_remote_code: Whether to run model code that lies in the folder.

    Raises:
        ConfigError: A setting does not fit the model, the factory fails, or the model brings code
            that is not trusted.
        CheckpointError: The model cannot be loaded: no segmentation model, or weights are missing,
            damaged or of another model.
    """
    path = Path(path)
    if factory is not None:
        _refuse(model_problems(path, factory, prompt))
        module = _load_module(path, factory).to(device, dtype).eval()
        return SemanticSegmenter(module, _preprocessing(path, image_size, None))
    config = read_config(path)
    _refuse(model_problems(path, None, prompt))
    sam = config["model_type"] == "sam"
    model = _load_pretrained(path, config, dtype, trust_remote_code).to(device).eval()
    if not sam:
        own = getattr(model.config, "image_size", None)
        return SemanticSegmenter(model, _preprocessing(path, image_size, own))
    side = int(model.config.vision_config.image_size)
    if image_size not in (None, side):
        raise ConfigError(
            f"image_size {image_size}: this Segment Anything model takes {side} only; leave it out"
        )
    return SamSegmenter(model, Preprocessing.read(path), cast("Prompt", prompt))


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigError("\n".join(problems))


def _preprocessing(path: Path, image_size: int | None, own: Any) -> Preprocessing:
    found = Preprocessing.read(path)
    return replace(found, size=as_size(image_size) or found.size or as_size(own))


def _load_pretrained(
    path: Path, config: Mapping[str, Any], dtype: torch.dtype, trust_remote_code: bool
) -> Any:
    """Load a model of transformers, with the ``config.json`` given, from safetensors."""
    kind = str(config["model_type"])
    known = [*MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES, UNetConfig.model_type, "sam"]
    auto = SamModel if kind == "sam" else AutoModelForSemanticSegmentation
    options: dict[str, Any] = {}
    if kind not in known:
        if auto.__name__ not in config.get("auto_map", {}):
            raise CheckpointError(
                f"{path}: transformers has no segmentation model of type '{kind}' that qdmerge "
                f"can use{nearest(kind, known)} Known: {', '.join(sorted(known))}."
            )
        if not trust_remote_code:
            raise ConfigError(
                f"{path}: a '{kind}' model runs code that lies beside its weights; read it, "
                "then set trust_remote_code: true"
            )
        options["trust_remote_code"] = True
    try:
        with _quiet():
            model, info = auto.from_pretrained(
                path,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                dtype=dtype,
                **options,
            )
    except Exception as error:  # configuration, weights, and the model's own code can all fail
        first = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path}: cannot load the model: {first}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{path}: lacks {len(missing)} tensors of {type(model).__name__}, such as "
            f"{missing[0]}; train a model that has them, or save one initialized by transformers"
        )
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' report on loading: what is wrong is raised."""
    logging = transformers.utils.logging
    logging.disable_progress_bar()  # one line per worker otherwise
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _load_module(path: Path, factory: str) -> torch.nn.Module:
    """Make a module and load its weights; names and shapes must agree."""
    make = load_target(factory)
    try:
        module = make()
    except Exception as error:
        raise ConfigError(f"'{factory}', called without arguments, failed: {error}") from error
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(f"'{factory}' returns a {type(module).__name__}, not a torch.nn.Module")
    file = _weights(path)
    try:
        load_model(module, file)
    except RuntimeError as error:
        cause = " ".join(str(error).split())
        raise CheckpointError(f"{file} does not fit the module of '{factory}': {cause}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from error
    return module


def _weights(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.safetensors"))
    if path / "model.safetensors" in found:
        return path / "model.safetensors"
    if len(found) != 1:
        has = f"{len(found)} safetensors files" if found else "no safetensors file"
        raise CheckpointError(f"{path}: {has} here; expected model.safetensors, or name a file")
    return found[0]
