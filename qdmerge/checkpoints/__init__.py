"""Checkpoints: files to tensors and back.

- :class:`Checkpoint`: a model in safetensors files or shards, read a tensor at a time;
  :class:`TensorInfo`: what a header says; :func:`write_checkpoint`: a model in another's layout.
- :class:`TaskVectors`: a base and its experts (whole models or LoRA adapters), read lazily.
- :class:`Adapter`, :class:`LowRank`: an expert that is a LoRA adapter, and its change of a matrix.
- :func:`checkpoint_problems`: what prevents merging checkpoints, found without torch.
- :func:`loading_problems`: why transformers cannot make a whole model of a checkpoint.
- :func:`weights_digest`: the SHA-256 of a base's weights, to record beside what is trained on them.
- :func:`as_matrix`: the shape of a tensor viewed as a matrix.
- :func:`fetch`, :func:`is_hub_id`, :func:`is_local`, :func:`missing`: sources, here or on the Hub.
- :class:`Scheme`, :func:`scheme_of`, :func:`scheme_name`, :func:`scheme_names`,
  :func:`find_scheme`, :func:`build_scheme`: sources that an installed scheme makes.
- :data:`Progress`, :func:`silent`: callbacks that receive the progress of what takes long.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
