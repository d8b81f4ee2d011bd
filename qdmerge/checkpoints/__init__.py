"""Checkpoints: files to tensors and back.

- :class:`Checkpoint`: a model in safetensors files or shards, read a tensor at a time.
- :class:`TaskVectors`: a base and its experts (whole models or LoRA adapters), read lazily.
- :func:`checkpoint_problems`: what keeps checkpoints from being merged, from their headers alone.
- :func:`weights_digest`: what a base's weights are, to record beside what was trained on them.
- :class:`Scheme`, :func:`scheme_of`, :func:`fetch`, :func:`is_hub_id`: sources, here, on the Hub,
  or made by an installed scheme.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
