"""Execution: where evaluations run, and what becomes of those that fail."""

from __future__ import annotations

from qdmerge.execution._evaluator import Evaluator, Outcome, PendingEvaluation
from qdmerge.execution._executors import (
    Executor,
    ProcessExecutor,
    SerialExecutor,
    Timed,
    limit_threads,
)

__all__ = [
    "Evaluator",
    "Executor",
    "Outcome",
    "PendingEvaluation",
    "ProcessExecutor",
    "SerialExecutor",
    "Timed",
    "limit_threads",
]
