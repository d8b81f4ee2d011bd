"""Schedulers: pyribs-style ask and tell over K archives."""

from __future__ import annotations

from qdmerge.schedulers._batch import UNFIT_SCHEDULERS, Batch, follows_gradients, learns
from qdmerge.schedulers._policies import BanditScheduler, CycleScheduler, FixedScheduler
from qdmerge.schedulers._task_scheduler import TaskScheduler

__all__ = [
    "UNFIT_SCHEDULERS",
    "BanditScheduler",
    "Batch",
    "CycleScheduler",
    "FixedScheduler",
    "TaskScheduler",
    "follows_gradients",
    "learns",
]
