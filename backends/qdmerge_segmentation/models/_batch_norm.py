"""Running statistics of batch normalization, re-estimated after a merge."""

from __future__ import annotations

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from qdmerge_segmentation.models._segmenter import Inputs, Segmenter


def has_batch_norm(module: torch.nn.Module) -> bool:
    """Return whether a module has BatchNorm layers that keep running statistics."""
    return bool(_layers(module))


@torch.inference_mode()
def reestimate_batch_norm(segmenter: Segmenter, inputs: Inputs, batch_size: int) -> None:
    """Set the running mean and variance of all BatchNorm layers to those of the inputs.

    Merged weights change the activations, so no expert's statistics, nor their average, fit a
    merged model. Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407,
    ``torch.optim.swa_utils.update_bn``) and REPAIR (Jordan et al. 2023, arXiv 2211.08403)
    re-estimate them on training images. Unlike in ``update_bn``, only the BatchNorm layers are in
    training mode, so that dropout draws nothing, and batches are weighted by their images.

    Each layer normalizes with its own batch while it is measured. The mean is that over all inputs,
    the variance the mean of the batches' unbiased variances: a larger ``batch_size`` comes closer
    to the statistics of the whole, and a single batch gives them exactly. Nothing is random; the
    order of the inputs decides which images share a batch.

    Modes, momentum and the count of batches are restored.

    Args:
        segmenter: The model.
        inputs: What :meth:`Segmenter.inputs` returned for the images to measure on.
        batch_size: Most images run together; two or more.

    Raises:
        ValueError: A layer sees a single value per channel (one image of one pixel).
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
                if images == seen:  # earlier statistics may not be finite
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
