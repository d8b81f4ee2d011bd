"""Recipes without search, which every result is compared with."""

from __future__ import annotations

from qdmerge.baselines._recipes import plain_average, task_arithmetic

__all__ = ["plain_average", "task_arithmetic"]
