"""Contract suites: is my backend, space, archive, emitter, scheduler or executor a good citizen?

Each suite is a class of pytest tests. Subclass it in a test file and say how the part is made::

    from qdmerge.testing import SpaceContract

    class TestMySpace(SpaceContract):
        def make_space(self):
            return MySpace(...)

- :class:`BackendContract`: a domain and its settings.
- :class:`SpaceContract`: a space, of weights or free.
- :class:`ArchiveContract`, :class:`EmitterContract`: parts in pyribs' sense.
- :class:`SchedulerContract`: ask and tell over several archives.
- :class:`ExecutorContract`: where evaluations run.

The suites need pytest: ``pip install 'qdmerge[testing]'``.
"""

from __future__ import annotations

try:
    import pytest
except ImportError as error:
    raise ImportError("qdmerge.testing needs pytest: pip install 'qdmerge[testing]'") from error

for _part in ("_archive", "_backend", "_emitter", "_executor", "_scheduler", "_space"):
    pytest.register_assert_rewrite(f"{__name__}.{_part}")  # failures show values

from qdmerge.testing._archive import ArchiveContract  # noqa: E402
from qdmerge.testing._backend import BackendContract  # noqa: E402
from qdmerge.testing._emitter import EmitterContract  # noqa: E402
from qdmerge.testing._executor import ExecutorContract, ProbeBackend  # noqa: E402
from qdmerge.testing._scheduler import SchedulerContract  # noqa: E402
from qdmerge.testing._space import SpaceContract  # noqa: E402

__all__ = [
    "ArchiveContract",
    "BackendContract",
    "EmitterContract",
    "ExecutorContract",
    "ProbeBackend",
    "SchedulerContract",
    "SpaceContract",
]
