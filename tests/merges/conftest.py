from __future__ import annotations

from tests.trios import make_space, make_trio, trio

__all__ = ["make_space", "make_trio", "trio"]
