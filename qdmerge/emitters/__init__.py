"""Emitters are pyribs emitters; :class:`MergeEmitter` is CycleQD's.

:class:`GradientArborescence` and :class:`GradientOperator` are pyribs' with steps in the units of a
space.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
