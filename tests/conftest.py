"""Shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PLUGIN = str(Path(__file__).parent / "plugin")
sys.path.insert(0, _PLUGIN)
os.environ["PYTHONPATH"] = os.pathsep.join([_PLUGIN, os.environ.get("PYTHONPATH", "")])
