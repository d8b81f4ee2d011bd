"""Spaces: what a solution vector ``x`` means.

Every model that linear merging can reach is ``theta_base + (a linear map)(x)``; a space knows the
map. Regression means are not linear: they are weighted by what layers receive. Spaces of merging
recipes that are not linear either (TIES, DARE, SLERP) are in :mod:`qdmerge.merges`.

- :class:`Space`: dimension, bounds and seeds; all that archives, emitters and operators see.
- :class:`VectorSpace`: a free, possibly bounded vector, for domains without weights.
- :class:`WeightSpace`: a space whose vectors are model weights: express, export.
- :class:`LinearSpace`: a weight space with a linear map: merge, export as an adapter.
- :class:`ExpertSpace`: one coordinate per expert.
- :class:`LayerSpace`: one coordinate per expert and group of tensors.
- :class:`SpectralSpace`: multipliers on the singular components of every task vector.
- :class:`CoreSpace`: per matrix a small core between bases that all experts share.
- :class:`RegMeanSpace`: weights of regression means, which look at what layers receive.
- :class:`Calibration`: how a backend lets a space see the experts at work.
- :func:`singular_value_similarity`, :func:`task_vector_cosine`: how alike two experts are.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
