"""Running statistics of batch normalization, measured anew."""

from __future__ import annotations

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from qdmerge_segmentation.models._base import Inputs, Segmenter


def has_batch_norm(module: torch.nn.Module) -> bool:
    """Whether a module normalizes with running statistics (any BatchNorm that keeps some)."""
    return bool(_layers(module))


@torch.inference_mode()
def reestimate_batch_norm(segmenter: Segmenter, inputs: Inputs, batch_size: int) -> None:
    """Set the running mean and variance of all BatchNorm layers to those of the inputs.

    Merged weights make other activations than those that any expert's statistics are of, so that
    merged statistics fit nothing. Measuring them on training images after a merge is what
    stochastic weight averaging does (Izmailov et al. 2018, arXiv 1803.05407,
    ``torch.optim.swa_utils.update_bn``) and REPAIR (Jordan et al. 2023, arXiv 2211.08403). Unlike
    ``update_bn``, only the BatchNorm layers are in training mode, so that dropout draws nothing,
    and batches count by their number of images.

    Statistics are averages over batches, each layer normalizing with its own batch while it is
    measured: the mean is that over all inputs, the variance the mean of the batches' unbiased
    variances. So a larger ``batch_size`` comes closer to the statistics of the whole, which one
    batch of everything gives exactly. The order of the inputs decides which images share a batch;
    nothing is drawn.

    Modes, momentum and the count of batches are as before afterwards.

    Args:
        segmenter: The model.
        inputs: What :meth:`Segmenter.inputs` gave for the images to measure on.
        batch_size: Most images run together; two or more.

    Raises:
        ValueError: If a layer sees a single value per channel (one image of one pixel).
    """
    layers = _layers(segmenter.module)
    if not layers:
        return
    modes = {module: module.training for module in segmenter.module.modules()}
    momenta = {layer: layer.momentum for layer in layers}
    counts = [
        (buffer, buffer.clone())
        for name, buffer in segmenter.module.named_buffers()
        if name.endswith("num_batches_tracked")
    ]
    segmenter.module.eval()
    for layer in layers:
        layer.train()
    try:
        seen = 0
        for batch in segmenter.batches(inputs, batch_size):
            images = len(next(iter(batch.values())))
            seen += images
            for layer in layers:
                layer.momentum = images / seen
                if images == seen:  # what was there may not be finite
                    layer.reset_running_stats()
            segmenter.maps(batch)
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum
        for buffer, count in counts:
            buffer.copy_(count)
        for module, training in modes.items():
            module.training = training


def _layers(module: torch.nn.Module) -> list[_BatchNorm]:
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    ]
