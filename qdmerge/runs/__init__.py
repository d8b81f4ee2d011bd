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
from qdmerge.runs._lookup import pick_solution
from qdmerge.runs._run import Run, Workplace, obtain_results
from qdmerge.runs._search import Listener, Progress, plain_scores, recalled_outcome

__all__ = [
    "DECISIVE",
    "BuildBackend",
    "Evaluated",
    "EventLog",
    "History",
    "Listener",
    "Progress",
    "Run",
    "RunFolder",
    "SolutionStore",
    "Stats",
    "Workplace",
    "build_search",
    "changed_facts",
    "domain_facts",
    "final_criteria",
    "load_backend",
    "obtain_results",
    "pick_solution",
    "plain_scores",
    "read_events",
    "read_history",
    "recalled_outcome",
    "solution_id",
    "versions",
    "warm_up",
]
