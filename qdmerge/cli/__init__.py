"""The command line: parses, calls the library, prints."""

from __future__ import annotations

from qdmerge.cli._app import app, main

__all__ = ["app", "main"]
