"""How good the best model so far was, as a search went on."""

from __future__ import annotations

from typing import Any

from qdmerge.runs._choice import Choice
from qdmerge.runs._history import History
from qdmerge.runs._scores import SplitScores
from qdmerge.runs._solutions import SolutionStore


def incumbents(
    history: History, choice: Choice, scores: SplitScores, store: SolutionStore
) -> list[dict[str, Any]]:
    """The successive best models by validation, scored on the selection split.

    A best validation score overstates, the more so the more models were looked at; the selection
    split has not been seen by the search.

    Args:
        history: The run as its log tells it.
        choice: The criterion.
        scores: Evaluates and remembers.
        store: Has the solutions.

    Returns:
        Per incumbent, the ``evaluations`` of children up to it, its ``solution`` and its
        ``selection`` scores; one whose evaluation on that split failed is left out.
    """
    names = [task.name for task in history.tasks]
    best, evaluations, found = float("-inf"), 0, []
    for model in history.evaluated:
        evaluations += model.batch >= 0
        if model.scores is None:
            continue
        value = choice(dict(zip(names, model.scores.tolist(), strict=True)))
        if value > best:
            best = value
            found.append((evaluations, model.solution))
    xs = {solution: store.get(solution) for _, solution in found}
    scores.evaluate(list(xs.values()), "selection", "best so far")
    return [
        {
            "evaluations": at,
            "solution": solution,
            "selection": scores.scores(xs[solution], "selection"),
        }
        for at, solution in found
        if scores.known(xs[solution], "selection")
    ]
