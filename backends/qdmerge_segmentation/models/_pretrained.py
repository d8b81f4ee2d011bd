"""Models of transformers, from a folder that ``save_pretrained`` wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForSemanticSegmentation, SamModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from qdmerge.errors import CheckpointError, ConfigError, nearest
from qdmerge_segmentation.models.modeling_unet import UNetConfig, UNetForSemanticSegmentation

# The U-Net needs no code from its checkpoint where qdmerge is installed.
AutoConfig.register(UNetConfig.model_type, UNetConfig, exist_ok=True)
AutoModelForSemanticSegmentation.register(UNetConfig, UNetForSemanticSegmentation, exist_ok=True)


def load_pretrained(
    path: Path, config: Mapping[str, Any], dtype: torch.dtype, trust_remote_code: bool
) -> Any:
    """Load a model that segments, in evaluation mode.

    Args:
        path: The folder; weights are safetensors.
        config: Its ``config.json``.
        dtype: Number type of the weights.
        trust_remote_code: Whether to run model code that lies in the folder.

    Raises:
        ConfigError: If the model brings code of its own and that is not trusted.
        CheckpointError: If transformers does not segment with such a model, or if weights are
            missing, damaged or do not fit.
    """
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
                f"{path}: a '{kind}' model runs code that lies beside its weights; look at it, "
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
    """Without transformers' report on loading: what is wrong is raised, what is not is noise."""
    logging = transformers.utils.logging
    logging.disable_progress_bar()  # a line for each worker otherwise
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
