"""Finds a model of a run by name; needs no replay and no backend."""

from __future__ import annotations

import numpy as np

from qdmerge.errors import RunError, nearest
from qdmerge.operators import softmax_aggregate
from qdmerge.runs._folder import RunFolder
from qdmerge.runs._history import History, read_history
from qdmerge.settings import RunConfig


def lookup_solution(folder: RunFolder, config: RunConfig, what: str) -> np.ndarray:
    """The solution of a model.

    Args:
        folder: The run's folder.
        config: Its configuration.
        what: "chosen" or a candidate's name, in a finished run; "best:TASK" or "aggregate", at any
            time; a seed's name; or the beginning of the id of any evaluated solution.

    Returns:
        ``(dim,)`` solution.

    Raises:
        RunError: There is no such model in this run.
    """
    history = read_history(folder.read_events())
    best = _best_elites(history, config)
    by_name = {model.name: model.solution for model in history.evaluated if model.name}
    by_name |= {
        f"best:{task}": history.evaluated[position].solution for task, position in best.items()
    }
    if folder.results.is_file():  # its names win: what is exported is what its rows tell of
        results = folder.read_results()
        by_name |= {row["name"]: row["solution"] for row in results["candidates"]}
        by_name["chosen"] = by_name[results["chosen"]]
    if what not in by_name and what == "aggregate" and best:
        positions = list(best.values())
        xs = [folder.solutions.get(history.evaluated[p].solution) for p in positions]
        return softmax_aggregate(np.stack(xs), _qualities(history, positions))
    if what in by_name:
        return folder.solutions.get(by_name[what])
    return folder.solutions.get(_by_id(history, what, list(by_name)))


def _best_elites(history: History, config: RunConfig) -> dict[str, int]:
    """Task to the position of its archive's best elite among the evaluated models."""
    return {
        task: int(archive.best_elite["solution"][0])
        for task, archive in history.archives(config).items()
    }


def _qualities(history: History, positions: list[int]) -> np.ndarray:
    scores = [history.evaluated[position].scores for position in positions]
    return np.array([row[task] for task, row in enumerate(scores) if row is not None])


def _by_id(history: History, what: str, names: list[str]) -> str:
    ids = {model.solution for model in history.evaluated}
    ids |= {event["solution"] for event in history.final}
    found = [identity for identity in ids if len(what) >= 4 and identity.startswith(what)]
    if len(found) > 1:
        raise RunError(f"'{what}' is the beginning of {len(found)} ids; give more of it")
    if not found:
        known = ", ".join([*names, "aggregate"])
        raise RunError(
            f"there is no model '{what}' in this run{nearest(what, names)} Known: {known}, or the "
            "id of an evaluated solution"
        )
    return found[0]
