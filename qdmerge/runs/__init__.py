"""Runs: folder, event log, resume, and the results."""

from __future__ import annotations

from qdmerge.runs._building import (
    DECISIVE,
    BuildBackend,
    build_search,
    changed_facts,
    domain_facts,
    final_criteria,
    load_backend,
    warm_up,
)
from qdmerge.runs._folder import RunFolder, versions
from qdmerge.runs._history import Evaluated, History, Stats, read_history
from qdmerge.runs._log import EventLog, SolutionStore, read_events, solution_id
from qdmerge.runs._lookup import lookup_solution
from qdmerge.runs._run import Run, SharedBackend, run_or_resume
from qdmerge.runs._search import (
    Listener,
    RunProgress,
    plain_scores,
    recalled_outcome,
    stage_progress,
)

__all__ = [
    "DECISIVE",
    "BuildBackend",
    "Evaluated",
    "EventLog",
    "History",
    "Listener",
    "Run",
    "RunFolder",
    "RunProgress",
    "SharedBackend",
    "SolutionStore",
    "Stats",
    "build_search",
    "changed_facts",
    "domain_facts",
    "final_criteria",
    "load_backend",
    "lookup_solution",
    "plain_scores",
    "read_events",
    "read_history",
    "recalled_outcome",
    "run_or_resume",
    "solution_id",
    "stage_progress",
    "versions",
    "warm_up",
]
