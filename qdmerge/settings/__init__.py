"""Settings: text to objects.

- :func:`load_config`, :func:`parse_config`: configurations, checked all at once.
- :class:`RunConfig`: everything that decides a run.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
