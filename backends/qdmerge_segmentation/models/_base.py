"""What every segmentation model is to the backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from qdmerge.errors import ConfigError
from qdmerge_segmentation.models._names import with_checkpoint_names

Inputs = Mapping[str, torch.Tensor]


class Segmenter(ABC):
    """A live module and its preprocessing.

    Args:
        module: The module.

    Attributes:
        module: Makes the predictions; what is trained and saved.
        weights: Holds the same tensors, with a ``state_dict`` of the checkpoint's names: what a
            weight space expresses into. Often the module itself.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.weights = with_checkpoint_names(module)

    @abstractmethod
    def inputs(
        self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]
    ) -> dict[str, torch.Tensor]:
        """Prepare images once for many forward passes.

        Args:
            images: RGB images, ``(h, w, 3)`` uint8 each.
            masks: Their true regions, ``(h, w)`` bool each. They make prompts where the model
                takes prompts, and nothing else.

        Returns:
            Tensors on the CPU whose first dimension is that of the images. Pixels stay uint8, a
            quarter of the memory; they are normalized when used.

        Raises:
            ConfigError: If the images cannot be brought to one size.
        """

    @abstractmethod
    def maps(self, inputs: Inputs) -> torch.Tensor:
        """Run the model; differentiable.

        Args:
            inputs: A batch of what :meth:`inputs` gives, on the module's device.

        Returns:
            Logits, ``(n, C, h', w')``; each map covers the whole image.
        """

    def logits(self, inputs: Inputs, labels: Sequence[int] | None = None) -> torch.Tensor:
        """Log-odds that a pixel is foreground; differentiable.

        Args:
            inputs: A batch of what :meth:`inputs` gives, on the module's device.
            labels: Labels of the model that mean foreground; see :func:`foreground`.

        Returns:
            ``(n, h', w')`` float; above 0 means foreground. Each covers the whole image.

        Raises:
            ConfigError: If ``labels`` do not fit the model.
        """
        return foreground(self.maps(inputs), labels)

    def batches(self, inputs: Inputs, batch_size: int) -> Iterator[dict[str, torch.Tensor]]:
        """Batches on the module's device: as few as hold at most ``batch_size``, of like size."""
        device = next(self.module.parameters()).device
        count = len(next(iter(inputs.values())))
        split = {key: value.tensor_split(-(-count // batch_size)) for key, value in inputs.items()}
        for parts in zip(*split.values(), strict=True):
            yield {key: part.to(device) for key, part in zip(split, parts, strict=True)}


def foreground(maps: torch.Tensor, labels: Sequence[int] | None) -> torch.Tensor:
    """Log-odds of the foreground from a model's logits.

    With probabilities ``softmax(maps)``, the log-odds of a set of labels against all others are
    ``logsumexp(maps[labels]) - logsumexp(maps[rest])``. A single map is taken for log-odds itself.

    Args:
        maps: Logits, ``(n, C, h, w)``.
        labels: Labels that mean foreground; None for the only one of one, or the second of two.

    Returns:
        ``(n, h, w)``.

    Raises:
        ConfigError: If ``labels`` is missing for three or more maps, names a label that the model
            has not, or leaves none for the background.
    """
    count = maps.shape[1]
    if labels is None:
        if count > 2:
            raise ConfigError(
                f"the model has {count} labels; set labels to those that mean foreground"
            )
        labels = [count - 1]
    chosen = sorted(set(labels))
    if not chosen or chosen[0] < 0 or chosen[-1] >= count:
        raise ConfigError(f"labels {list(labels)}: the model's labels are 0 to {count - 1}")
    if count == 1:
        return maps[:, 0]
    rest = [label for label in range(count) if label not in chosen]
    if not rest:
        raise ConfigError(f"labels {list(labels)}: all labels of the model; none is background")
    return maps[:, chosen].logsumexp(dim=1) - maps[:, rest].logsumexp(dim=1)
