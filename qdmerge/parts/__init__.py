"""Parts by name: registries, and factories that a search takes.

- :data:`ARCHIVES`, :data:`EMITTERS`, ...: the names of each kind of part; :class:`Registry`,
  :class:`Entry`.
- :class:`Part`: a name with its options; :func:`build_part` builds it.
- :class:`NamedArchive`, :class:`NamedEmitter`, :class:`NamedScheduler`: factories of parts by name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
