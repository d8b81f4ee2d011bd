"""What an adapter was made from: the record beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdmerge.errors import ConfigError
from qdmerge.storage import read_json_or_empty
from qdmerge_llm.training._config import completed

RECORD = "qdmerge.json"
"""What an adapter was made from and how, beside its weights."""


def is_made(out: Path, made_from: Mapping[str, Any]) -> bool:
    """Return whether ``out`` holds an adapter made from the same by any versions.

    Raises:
        ConfigError: It holds something else.
    """
    if not out.exists():
        return False
    if not is_same(read_json_or_empty(out / RECORD), made_from):
        raise ConfigError(
            f"{out} exists but was not made from this base, these conversations and these "
            "settings. Remove it, or name another folder."
        )
    return True


def is_same(found: Mapping[str, Any], made_from: Mapping[str, Any]) -> bool:
    """Return whether a record names the same base, data and settings."""
    try:
        return bool(
            found["data"]["sha256"] == made_from["data"]["sha256"]
            and found["base"] == made_from["base"]
            and completed(found["settings"]) == made_from["settings"]
        )
    except (KeyError, TypeError, ValueError):
        return False
