"""Recipes without search, which every result is compared with."""

from __future__ import annotations

from qdmerge.baselines._recipes import Mergeable, plain_average, task_arithmetic

__all__ = ["Mergeable", "plain_average", "task_arithmetic"]
