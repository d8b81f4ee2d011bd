"""Every segmentation model of transformers: an average is that of plain torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSemanticSegmentation,
    BeitConfig,
    ConvNextConfig,
    Data2VecVisionConfig,
    DPTConfig,
    MobileNetV2Config,
    MobileViTConfig,
    MobileViTV2Config,
    SegformerConfig,
    SwinConfig,
    UperNetConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from tests.backends.segmentation.conftest import shake
from tests.checkpoints.test_architectures import assert_averages

SIDE = 64
VIT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": SIDE,
    "num_labels": 3,
}
BEIT = VIT | {"out_indices": [1, 2, 3, 4], "pool_scales": [1, 2], "auxiliary_channels": 8}
SWIN: dict[str, Any] = {
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 2,
    "image_size": SIDE,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
CONVNEXT: dict[str, Any] = {
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
UPER: dict[str, Any] = {
    "hidden_size": 16,
    "auxiliary_channels": 8,
    "auxiliary_in_channels": 16,
    "num_labels": 3,
    "pool_scales": [1, 2],
}
MOBILE: dict[str, Any] = {"image_size": SIDE, "num_labels": 3}

CONFIGS: dict[str, Callable[[], Any]] = {
    "segformer": lambda: SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], num_labels=3
    ),
    "beit": lambda: BeitConfig(**BEIT),
    "beit with relative positions": lambda: BeitConfig(
        **BEIT, use_relative_position_bias=True, use_mask_token=True, patch_size=16
    ),
    "data2vec-vision": lambda: Data2VecVisionConfig(**BEIT),
    "dpt": lambda: DPTConfig(
        **VIT,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
    ),
    "upernet with swin": lambda: UperNetConfig(
        backbone_config=SwinConfig(**SWIN), **(UPER | {"auxiliary_in_channels": 32})
    ),
    "upernet with convnext": lambda: UperNetConfig(
        backbone_config=ConvNextConfig(**CONVNEXT), **UPER
    ),
    "mobilenet_v2": lambda: MobileNetV2Config(**MOBILE, depth_multiplier=0.25),
    "mobilevit": lambda: MobileViTConfig(
        **MOBILE, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32]
    ),
    "mobilevitv2": lambda: MobileViTV2Config(**MOBILE, width_multiplier=0.25),
}

NOT_HERE = {"sapiens2": "no small configuration", "tipsv2_dpt": "no small configuration"}


def test_all_are_here_or_said_not_to_be() -> None:
    known = {config().model_type for config in CONFIGS.values()}
    assert known | set(NOT_HERE) == set(MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_an_average_is_that_of_plain_torch(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = AutoModelForSemanticSegmentation.from_config(CONFIGS[kind](), dtype=torch.float32)
    models = {"base": base}
    for seed, name in enumerate(("a", "b"), 1):
        models[name] = copy.deepcopy(base)
        torch.manual_seed(seed)
        shake(models[name], 0.05)
    pixels = {"pixel_values": torch.randn(2, 3, SIDE, SIDE)}
    assert_averages(AutoModelForSemanticSegmentation, models, pixels, tmp_path)
