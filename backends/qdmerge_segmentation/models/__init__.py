"""Segmentation models as the backend sees them: images in, foreground log-odds out.

- :class:`Segmenter`: a live module with its preprocessing.
- :func:`load_segmenter`: load what transformers segments with, Segment Anything, or any torch
  module by factory.
- :func:`model_problems`: list what keeps a model from being loaded, without torch.
- :func:`foreground`: log-odds of the foreground from logits.
- :func:`predict`: masks in the images' own size.
- :func:`has_batch_norm`, :func:`reestimate_batch_norm`: statistics that are not to be merged.
- :class:`UNetConfig`, :class:`UNetForSemanticSegmentation`: a small model of our own.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
