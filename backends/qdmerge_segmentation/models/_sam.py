"""Segment Anything (Kirillov et al. 2023, arXiv 2304.02643) and its prompts.

Every image gets the same kind of prompt, for all models compared:

- ``box``: a tight box around the true region, as in the few-shot literature; a single box even if
  the region has many parts.
- ``point``: one foreground point, the pixel of the true region that is farthest from its edge.
- ``none``: nothing. The mask decoder then sees only its own tokens and the learned no-mask
  embedding (no point or box tokens, nor the not-a-point embedding, which pads points).

``box`` and ``point`` reveal where the truth is, so their scores compare with each other only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from qdmerge_segmentation.models._check import Prompt
from qdmerge_segmentation.models._preprocessing import Preprocessing, resize
from qdmerge_segmentation.models._segmenter import Inputs, Segmenter


class SamSegmenter(Segmenter):
    """A ``SamModel``: one prompt and one mask for an image, framed as in ``SamImageProcessor``.
    Freezes its positional frequencies, which are never trained but parameters in transformers 5.
    """

    def __init__(self, module: Any, preprocessing: Preprocessing, prompt: Prompt) -> None:
        super().__init__(module)
        self._preprocessing = preprocessing
        self._prompt = prompt
        self._side = int(module.config.vision_config.image_size)
        module.shared_image_embedding.positional_embedding.requires_grad_(False)

    def inputs(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]
    ) -> dict[str, torch.Tensor]:
        """Return uint8 ``pixel_values``; ``frame`` ``(n, 2)``, height and width of the part that is
        image; and in its pixels ``input_boxes`` ``(n, 1, 4)`` or ``input_points`` ``(n, 1, 1, 2)``.
        """
        frames = [self._frame(image.shape[0], image.shape[1]) for image in images]
        pixels = torch.zeros(len(images), 3, self._side, self._side, dtype=torch.uint8)
        for place, image, (height, width) in zip(pixels, images, frames, strict=True):
            place[:, :height, :width] = resize(image, (height, width))[0]
        prepared = {"pixel_values": pixels, "frame": torch.tensor(frames)}
        if self._prompt == "none":
            return prepared
        # Prompts are found in the image's own pixels, then scaled, as SamProcessor does.
        find = box_around if self._prompt == "box" else point_inside
        points = torch.tensor([find(mask) for mask in masks], dtype=torch.float32)
        scales = torch.tensor(
            [
                (w / mask.shape[1], h / mask.shape[0])
                for (h, w), mask in zip(frames, masks, strict=True)
            ]
        )
        points = points.view(len(images), -1, 2) * scales[:, None]
        if self._prompt == "box":
            return {**prepared, "input_boxes": points.view(-1, 1, 4)}
        labels = torch.ones(len(images), 1, 1, dtype=torch.int64)
        return {**prepared, "input_points": points[:, None], "input_labels": labels}

    def maps(self, inputs: Inputs) -> torch.Tensor:
        """Return one map, as high and wide as the model's side. At the image's size it equals
        ``post_process_masks`` up to the rounding of one more interpolation where padded.
        """
        frame = inputs["frame"].float()
        pixels = self._preprocessing.normalize(
            inputs["pixel_values"], next(self.module.parameters()).dtype
        )
        place = torch.arange(self._side, device=frame.device)
        rows, columns = (place < frame[:, axis, None] for axis in (0, 1))
        pixels = pixels * (rows[:, None, :, None] & columns[:, None, None, :])
        prompts = {key: value for key, value in inputs.items() if key.startswith("input_")}
        output = self.module(pixel_values=pixels, multimask_output=False, **prompts)
        return self._without_padding(output.pred_masks[:, 0].float(), frame)

    def _without_padding(self, maps: torch.Tensor, frame: torch.Tensor) -> torch.Tensor:
        """Stretch the part of each map that is image over the model's whole frame, bilinearly."""
        share = frame / self._side  # in coordinates from -1 to 1, x -> share * (x + 1) - 1
        theta = torch.zeros(len(maps), 2, 3, device=maps.device)
        theta[:, 0, 0], theta[:, 0, 2] = share[:, 1], share[:, 1] - 1
        theta[:, 1, 1], theta[:, 1, 2] = share[:, 0], share[:, 0] - 1
        size = [len(maps), 1, self._side, self._side]
        grid = functional.affine_grid(theta, size, align_corners=False)
        return functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)

    def _frame(self, height: int, width: int) -> tuple[int, int]:
        scale = self._side / max(height, width)
        return int(height * scale + 0.5), int(width * scale + 0.5)


def box_around(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the first and last column and row of a ``(h, w)`` bool region: ``(x0, y0, x1, y1)``,
    inclusive; the whole image's for an empty one.
    """
    region = mask if mask.any() else np.ones_like(mask)
    columns, rows = np.flatnonzero(region.any(axis=0)), np.flatnonzero(region.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def point_inside(mask: np.ndarray) -> tuple[int, int]:
    """Return the pixel ``(x, y)`` of a ``(h, w)`` bool region farthest (Euclidean) from all outside
    it or the image: the first in reading order; the center for an empty region.
    """
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        return mask.shape[1] // 2, mask.shape[0] // 2
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(x), int(y)
