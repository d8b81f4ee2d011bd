"""From images to a model's input tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from qdmerge.errors import ConfigError
from qdmerge_segmentation.models._check import read_processor

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of pixels in [0, 1]."""


@dataclass(frozen=True)
class Preprocessing:
    """Resizing to ``size`` (height, width; None keeps it) and normalization: ``scale`` pixels, then
    subtract ``mean`` and divide by ``std``. ``reverse`` means blue, green, red.
    """

    size: tuple[int, int] | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD
    reverse: bool = False

    @classmethod
    def read(cls, path: Path) -> Preprocessing:
        """Read a model folder's preprocessing as transformers writes it; ImageNet's if it has none.
        A size with one edge means a square; nothing is cropped: predictions cover whole images.
        """
        found = read_processor(path)
        factor = 1 / 255 if found.rescale_factor is None else found.rescale_factor
        return cls(
            size=found.size if found.do_resize else None,
            scale=factor if found.do_rescale else 1.0,
            mean=(found.image_mean or _MEAN) if found.do_normalize else (0.0,),
            std=(found.image_std or _STD) if found.do_normalize else (1.0,),
            reverse=bool(found.do_flip_channel_order),
        )

    def pixels(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Resize RGB images, ``(h, w, 3)`` uint8 each, to ``(n, 3, *size)`` uint8; ConfigError if
        there is no size to resize to and the images differ in theirs.
        """
        sizes = sorted({image.shape[:2] for image in images})
        if self.size is None and len(sizes) > 1:
            (h, w), (other_h, other_w) = sizes[0], sizes[-1]
            raise ConfigError(
                f"images differ in size ({w}x{h}, {other_w}x{other_h}, ...) and the model has none "
                "of its own; set image_size to the side they are resized to"
            )
        return torch.cat([resize(image, self.size or sizes[0]) for image in images])

    def normalize(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Scale and normalize ``(n, 3, h, w)`` uint8 pixels."""
        mean, std = (pixels.new_tensor(v, dtype=torch.float32) for v in (self.mean, self.std))
        values = pixels.flip(1) if self.reverse else pixels
        scaled = values * self.scale
        return ((scaled - mean[:, None, None]) / std[:, None, None]).to(dtype)


def resize(image: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Resize an image, ``(h, w, 3)`` uint8, to ``(1, 3, *size)`` uint8: bilinear with antialiasing,
    within one grey value of Pillow's, which transformers uses.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    if image.shape[:2] == size:
        return pixels
    return interpolate(pixels, size, mode="bilinear", antialias=True)
