"""Where qdmerge keeps what it can rebuild: factorizations and generated checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Return the cache folder: ``$QDMERGE_CACHE`` if set, else the platform's own place.

    The folder need not exist yet; everything in it may be deleted at any time.
    """
    chosen = os.environ.get("QDMERGE_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("qdmerge"))
