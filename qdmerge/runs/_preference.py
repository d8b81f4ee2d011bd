"""A model for any preference among the tasks of a run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from qdmerge.backend import GenomeBackend
from qdmerge.criteria import Criterion
from qdmerge.errors import ConfigError, RunError, nearest
from qdmerge.execution import Evaluator, SerialExecutor
from qdmerge.runs._history import History, read_history
from qdmerge.runs._log import EventLog, SolutionStore, solution_id
from qdmerge.runs._run import Run
from qdmerge.runs._scores import SplitScores
from qdmerge.runs._search import Listener


def parse_weights(text: str, tasks: Sequence[str]) -> dict[str, float]:
    """Read task weights.

    Args:
        text: ``"coding=0.5,db=0.3,os=0.2"``; tasks that are missing have weight 0.
        tasks: Names of the tasks.

    Returns:
        Every task's name to its weight; their sum is 1.

    Raises:
        ConfigError: Not of this form, an unknown task, or weights that no mean can have.
    """
    weights = dict.fromkeys(tasks, 0.0)
    seen: set[str] = set()
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(f"weights are of the form TASK=NUMBER,TASK=NUMBER; got '{part}'")
        if name not in weights:
            raise ConfigError(
                f"weights: unknown task '{name}'{nearest(name, tasks)} Tasks: {', '.join(tasks)}"
            )
        if name in seen:
            raise ConfigError(f"weights: task '{name}' is there twice")
        seen.add(name)
        try:
            weights[name] = float(number)
        except ValueError:
            raise ConfigError(f"weights: '{number}' of task '{name}' is not a number") from None
        if not (math.isfinite(weights[name]) and weights[name] >= 0):
            raise ConfigError(f"weights must be finite and at least 0; task '{name}' has {number}")
    total = sum(weights.values())
    if not 0 < total < math.inf:
        raise ConfigError("weights: at least one must be positive, with a finite sum")
    return {task: weight / total for task, weight in weights.items()}


@dataclass(frozen=True, eq=False)
class Preferred:
    """A model that was considered for task weights.

    Attributes:
        name: "plane" for the plane's model at these weights; else a seed's name, or the beginning
            of the solution's id.
        x: ``(dim,)`` solution.
        value: Mean of its scores on the selection split with these weights.
    """

    name: str
    x: np.ndarray
    value: float


def rank_by_weights(
    run: Run,
    backend: GenomeBackend,
    weights: Mapping[str, float],
    listener: Listener = lambda progress: None,
) -> list[Preferred]:
    """Rank models of a run for a preference among its tasks.

    They are the plane's model at the weights, if the run has a plane, and the ``final.leading``
    models that are best by the weights on validation. All are scored on the selection split,
    unless the log knows these scores.

    Args:
        run: The run; ``run.warnings`` tells which models could not be evaluated.
        backend: Its backend.
        weights: See :func:`parse_weights`.
        listener: Receives the progress.

    Returns:
        The models, the best by the weighted mean on selection first; of equal ones the plane's.

    Raises:
        RunError: The run has no model yet, none could be evaluated, models or data have changed,
            or another process is running in the folder.
    """
    began, folder = round(time.time(), 3), run.folder
    with folder.locked(), closing(EventLog(folder.log)) as log:
        run.check_unchanged(log, backend)
        history = read_history(log.events)
        criterion = Criterion("weights", {task.name: task.range for task in history.tasks}, weights)
        models = _leading(history, folder.solutions, criterion, run.config.final.leading)
        if plane := history.plane(backend.space, folder.solutions):
            models = {"plane": plane.at(list(weights.values())), **models}
        log.append("weights", began=began, weights=dict(weights))
        evaluator = Evaluator(SerialExecutor(backend), run.config.execution.retries)
        scores = SplitScores(list(weights), (), evaluator, log, folder.solutions, listener)
        scores.evaluate(list(models.values()), "selection", "selection")
        run.warnings += [
            f"{name} could not be evaluated {scores.failures[solution_id(x)]}"
            for name, x in models.items()
            if not scores.known(x, "selection")
        ]
        found = [
            Preferred(name, x, criterion(scores.scores(x, "selection")))
            for name, x in models.items()
            if scores.known(x, "selection")
        ]
    if not found:
        raise RunError("; ".join(run.warnings) or f"{folder.path} has scored no model yet")
    return sorted(found, key=lambda model: -model.value)


def _leading(
    history: History, store: SolutionStore, criterion: Criterion, count: int
) -> dict[str, np.ndarray]:
    """Return the models of the run that a criterion puts first on validation, by name."""
    names = [task.name for task in history.tasks]
    known = {
        e.solution: (e.name, e.scores.tolist()) for e in history.evaluated if e.scores is not None
    }
    for event in history.final:
        if event["split"] == "validation":
            known.setdefault(event["solution"], ("", event["scores"]))
    values = {
        identity: criterion(dict(zip(names, scores, strict=True)))
        for identity, (_, scores) in known.items()
    }
    best = sorted(values, key=lambda identity: (-values[identity], identity))[:count]
    return {known[identity][0] or identity[:8]: store.get(identity) for identity in best}
