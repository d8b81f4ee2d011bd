"""What Segment Anything is told about an image: the same policy for all models compared.

- ``box``: a tight box around the true region, as the few-shot literature does it; one box even if
  the region has many parts.
- ``point``: one foreground point, the pixel of the true region that is farthest from its edge.
- ``none``: nothing. The mask decoder then sees its own tokens and the learned no-mask embedding
  alone (no point or box tokens, nor the not-a-point embedding, which only fills up points).

``box`` and ``point`` give away where the truth is, so their scores compare with each other only.
"""

from __future__ import annotations

import numpy as np


def box_around(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The first and last column and row of a region: ``(x0, y0, x1, y1)``, inclusive pixels.

    Args:
        mask: ``(h, w)`` bool. An empty one gives the box of the whole image.
    """
    region = mask if mask.any() else np.ones_like(mask)
    columns, rows = np.flatnonzero(region.any(axis=0)), np.flatnonzero(region.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def point_inside(mask: np.ndarray) -> tuple[int, int]:
    """The pixel ``(x, y)`` of a region that is farthest from everything outside of it.

    The maximum of the Euclidean distance transform, where beyond the image is outside, too; the
    first in reading order if there are several.

    Args:
        mask: ``(h, w)`` bool. An empty one gives the center of the image.
    """
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        return mask.shape[1] // 2, mask.shape[0] // 2
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(x), int(y)
