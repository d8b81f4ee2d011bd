"""A small U-Net for semantic segmentation, as transformers knows models.

This file imports nothing but torch and transformers: ``save_pretrained`` copies it beside the
weights, so that a checkpoint loads wherever transformers is installed::

    AutoModelForSemanticSegmentation.from_pretrained(folder, trust_remote_code=True)

The network is a U-Net (Ronneberger, Fischer, Brox 2015, arXiv 1505.04597) with one convolution a
block. It works on half the resolution: pixels are folded into channels first (2 x 2 x 3 = 12) and
unfolded last (Shi et al. 2016, arXiv 1609.05158), which costs a quarter of the time and keeps thin
structures. Group normalization (Wu, He 2018, arXiv 1803.08494) keeps no running statistics, so
that weights can be averaged; batch normalization is the variant that shows what goes wrong else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SemanticSegmenterOutput

FOLD = 2  # pixels of a side that become channels


class UNetConfig(PretrainedConfig):
    """Architecture of a :class:`UNetForSemanticSegmentation`.

    Args:
        widths: Channels of each level; each level halves the resolution of the one before.
        norm: "group" or "batch".
        groups: Groups of a group normalization; has to divide every width.
        num_channels: Channels of an image.
        num_labels: Maps of logits; one map is a single foreground.

    Raises:
        ValueError: If ``norm`` is unknown or ``groups`` does not divide a width.
    """

    model_type = "groupnorm-unet"

    def __init__(
        self,
        widths: tuple[int, ...] = (16, 32, 64, 96),
        norm: str = "group",
        groups: int = 8,
        num_channels: int = 3,
        num_labels: int = 1,
        **kwargs: Any,
    ) -> None:
        if norm not in ("group", "batch"):
            raise ValueError(f"expected norm 'group' or 'batch'; received {norm!r}")
        if not widths or (norm == "group" and any(width % groups for width in widths)):
            raise ValueError(f"expected widths divisible by groups={groups}; received {widths}")
        self.widths = list(widths)
        self.norm = norm
        self.groups = groups
        self.num_channels = num_channels
        if kwargs.get("id2label") is None:  # what a saved configuration holds instead
            kwargs["num_labels"] = num_labels
        super().__init__(**kwargs)

    def to_diff_dict(self) -> dict[str, Any]:
        """What ``save_pretrained`` writes; two labels too, which transformers takes for granted."""
        return {**super().to_diff_dict(), "id2label": self.id2label, "label2id": self.label2id}


class _Block(nn.Module):
    """3 x 3 convolution, normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int, config: UNetConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        group = config.norm == "group"
        self.norm = nn.GroupNorm(config.groups, outputs) if group else nn.BatchNorm2d(outputs)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(self.conv(hidden)))


class UNetForSemanticSegmentation(PreTrainedModel):
    """U-Net with as many maps of logits, of the images' own size, as the model has labels."""

    config_class = UNetConfig
    main_input_name = "pixel_values"
    base_model_prefix = "unet"

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths = config.widths
        folded = config.num_channels * FOLD**2
        self.down = nn.ModuleList(
            _Block(inputs, outputs, config)
            for inputs, outputs in zip([folded, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            _Block(below + beside, beside, config)
            for below, beside in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], config.num_labels * FOLD**2, 1)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> SemanticSegmenterOutput:
        """Compute logits.

        Args:
            pixel_values: Images, ``(n, num_channels, h, w)``, any height and width: they are
                padded to a multiple of ``2 ** len(widths)`` by repeating the last row and column.
            **kwargs: Ignored; other models of this kind know more arguments.

        Returns:
            Logits ``(n, num_labels, h, w)``.
        """
        height, width = pixel_values.shape[-2:]
        step = FOLD * 2 ** (len(self.down) - 1)
        rest = (0, -width % step, 0, -height % step)
        if any(rest):
            pixel_values = functional.pad(pixel_values, rest, mode="replicate")
        hidden = functional.pixel_unshuffle(pixel_values, FOLD)
        hidden = hidden.contiguous(memory_format=torch.channels_last)  # faster on CPU, too
        kept = []
        for level, block in enumerate(self.down):
            hidden = block(functional.max_pool2d(hidden, 2) if level else hidden)
            kept.append(hidden)
        for block, beside in zip(self.up, kept[-2::-1], strict=True):
            hidden = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
            hidden = block(torch.cat([hidden, beside], dim=1))
        logits = functional.pixel_shuffle(self.head(hidden), FOLD)
        return SemanticSegmenterOutput(logits=logits[..., :height, :width])


UNetConfig.register_for_auto_class()
UNetForSemanticSegmentation.register_for_auto_class("AutoModelForSemanticSegmentation")
