"""The sandbox that executes answers."""

from __future__ import annotations

from tests.backends.llm.conftest import sandbox

__all__ = ["sandbox"]
