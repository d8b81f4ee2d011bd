"""Execution: where evaluations run, and what becomes of those that fail."""

from __future__ import annotations

from qdmerge.execution._evaluator import Evaluator, Outcome, PendingEvaluation
from qdmerge.execution._executors import (
    Executor,
    ProcessExecutor,
    SerialExecutor,
    Timed,
    WorkerPool,
    limit_threads,
)
from qdmerge.execution._jobs import Job, Report, job_main, run_jobs

__all__ = [
    "Evaluator",
    "Executor",
    "Job",
    "Outcome",
    "PendingEvaluation",
    "ProcessExecutor",
    "Report",
    "SerialExecutor",
    "Timed",
    "WorkerPool",
    "job_main",
    "limit_threads",
    "run_jobs",
]
