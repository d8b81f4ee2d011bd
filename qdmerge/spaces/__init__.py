"""Spaces: what a solution vector ``x`` means.

A linear merge is ``theta_base + (a linear map)(x)``; a space knows the map. Regression means are
not linear: they are weighted by what layers receive. Spaces of recipes that are not linear either
(TIES, DARE, SLERP) are in :mod:`qdmerge.merges`.

- :class:`Space`: dimension, bounds and seeds; all that archives, emitters and operators see.
- :class:`VectorSpace`: a free, possibly bounded vector, for domains without weights.
- :class:`WeightSpace`: a space whose vectors are model weights: express, export. A space of your
  own returns a :data:`Merger`.
- :class:`LinearSpace`: a weight space with a linear map: merge, export as an adapter.
- :class:`ExpertSpace`: one coordinate per expert.
- :class:`LayerSpace`: one coordinate per expert and group of tensors; :func:`layer_of` groups them.
- :class:`DenseSpace`: every number of the model's weights is a coordinate.
- :class:`SpectralSpace`: multipliers on the singular components of every task vector, the
  :class:`SpectralCoordinates`.
- :class:`CoreSpace`: per matrix a small core between bases that all experts share.
- :class:`RegMeanSpace`: weights of regression means.
- :class:`Calibration`: a backend's way to let a space watch its experts at work.
- :class:`Guide`: a backend's way to let a search see where to go; :class:`ModuleGuide` is one of a
  live module and a loss; :data:`Objective` is which loss; :func:`computed_again` saves memory.
- :func:`singular_value_similarity`, :func:`task_vector_cosine`: how similar two experts are.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
