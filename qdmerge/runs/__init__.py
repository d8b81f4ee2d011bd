"""Runs: folder, event log, resume, and the results."""

from __future__ import annotations

from qdmerge.runs._building import BuildBackend, build_search, load_backend
from qdmerge.runs._folder import RunFolder
from qdmerge.runs._history import Evaluated, History, Stats, lookup_solution, read_history
from qdmerge.runs._log import SolutionStore, read_events, solution_id
from qdmerge.runs._run import Run, SharedBackend, run_or_resume
from qdmerge.runs._search import Listener, RunProgress

__all__ = [
    "BuildBackend",
    "Evaluated",
    "History",
    "Listener",
    "Run",
    "RunFolder",
    "RunProgress",
    "SharedBackend",
    "SolutionStore",
    "Stats",
    "build_search",
    "load_backend",
    "lookup_solution",
    "read_events",
    "read_history",
    "run_or_resume",
    "solution_id",
]
