"""Small random checkpoints of every kind of segmentation model, and images to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_model
from transformers import (
    PreTrainedModel,
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

from qdmerge_segmentation.models import UNetConfig, UNetForSemanticSegmentation

SAM_SIDE = 64


@dataclass(frozen=True)
class Family:
    """A base and two experts: the base's weights and buffers, each changed at random.

    Attributes:
        base: Folder of the base.
        experts: Folders of the experts "a" and "b".
        load: Settings that :func:`load_segmenter` needs besides the path.
    """

    base: Path
    experts: dict[str, Path]
    load: dict[str, Any]


def segformer() -> SegformerForSemanticSegmentation:
    return SegformerForSemanticSegmentation(
        SegformerConfig(
            depths=[1, 1, 1, 1],
            hidden_sizes=[8, 8, 16, 16],
            num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16,
            num_labels=3,
        )
    )


def sam() -> SamModel:
    vision = SamVisionConfig(
        hidden_size=32,
        output_channels=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SAM_SIDE,
        patch_size=8,
        mlp_dim=32,
        window_size=3,
        global_attn_indexes=[1],
        num_pos_feats=8,
    )
    prompts = SamPromptEncoderConfig(
        hidden_size=16, image_size=SAM_SIDE, patch_size=8, mask_input_channels=4
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=16,
        mlp_dim=16,
        num_attention_heads=2,
        attention_downsample_rate=1,
        iou_head_hidden_dim=8,
    )
    config = SamConfig(
        vision_config=vision.to_dict(),
        prompt_encoder_config=prompts.to_dict(),
        mask_decoder_config=decoder.to_dict(),
    )
    return SamModel(config)


def unet(norm: str = "group") -> UNetForSemanticSegmentation:
    return UNetForSemanticSegmentation(UNetConfig(widths=(8, 16), groups=4, norm=norm))


def plain() -> torch.nn.Module:
    """A module as anyone may have one; tests name it ``tests.backends...conftest:plain``."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.Dropout(0.5),
        torch.nn.Conv2d(4, 2, 3, padding=1),
    )


KINDS: dict[str, Callable[[], torch.nn.Module]] = {
    "segformer": segformer,
    "sam": sam,
    "unet": unet,
    "unet-batch": lambda: unet("batch"),
    "plain": plain,
}
#: Kinds that transformers saves and loads.
PRETRAINED = [kind for kind in KINDS if kind != "plain"]


@torch.no_grad()
def shake(module: torch.nn.Module, by: float) -> None:
    """Change every floating-point parameter and buffer at random; variances stay positive."""
    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            tensor += 5  # a count of batches; never merged
        elif name.endswith("running_var"):
            tensor.mul_(torch.exp(by * torch.randn_like(tensor)))
        elif "positional_embedding" not in name:  # fixed by Segment Anything
            tensor.add_(by * torch.randn_like(tensor))


def save(module: torch.nn.Module, folder: Path) -> Path:
    if isinstance(module, PreTrainedModel):
        module.save_pretrained(folder)
    else:
        folder.mkdir(parents=True)
        save_model(module, str(folder / "model.safetensors"))
    return folder


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    """The checkpoints of a kind, by its name in ``KINDS``."""

    @cache
    def make(kind: str) -> Family:
        root = tmp_path_factory.mktemp(kind)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = KINDS[kind]()
            if kind == "sam":  # made with weights near zero
                shake(module, 0.3)
            base = save(module, root / "base")
            state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            experts = {}
            for expert in ("a", "b"):
                module.load_state_dict(state)
                shake(module, 0.1)
                experts[expert] = save(module, root / expert)
        load = {"plain": {"factory": f"{__name__}:plain"}, "sam": {"prompt": "box"}}
        return Family(base, experts, load.get(kind, {}))

    return make


def pictures(count: int = 4, size: tuple[int, int] = (64, 64), seed: int = 0) -> Any:
    """Images with a bright ellipse each, and their masks."""
    rng = np.random.default_rng(seed)
    images, masks = [], []
    for _ in range(count):
        y, x = np.mgrid[: size[0], : size[1]]
        center, radii = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.1, 0.3, 2) * size
        mask = ((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2 < 1
        image = rng.normal(80, 20, (*size, 3)) + 90 * mask[..., None] * rng.uniform(0.3, 1, 3)
        images.append(image.clip(0, 255).astype(np.uint8))
        masks.append(mask)
    return images, masks
