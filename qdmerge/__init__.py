"""qdmerge: merge fine-tuned experts into multi-skill models by quality diversity.

The public names are loaded on first use, so that ``import qdmerge`` stays quick.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
