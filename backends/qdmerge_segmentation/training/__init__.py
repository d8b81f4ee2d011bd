"""Training of missing models, from plain settings and images; importing it loads no torch.

- :class:`TrainingConfig`, :class:`StageConfig`: how models are trained.
- :class:`Plan`, :class:`Model`, :class:`TrainingTask`: the models to train, and on what.
- :func:`make_models`: train base and experts, each in a process of its own.
- :func:`missing_models`: list those to train, and what prevents it.
- :class:`Mix`, :func:`generator`, :func:`turned`, :func:`segmentation_loss`, :func:`truth_of`: the
  training objective, for studies of one's own.
- :func:`trained_images`, :func:`training_seconds`: read the history of a trained model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
