"""Run the command line: ``python -m qdmerge.cli``."""

from __future__ import annotations

from qdmerge.cli import main

main()
