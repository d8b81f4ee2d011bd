"""The end of a run: candidates, choice and test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qdmerge.backend import side_tasks
from qdmerge.criteria import Criterion, CriterionName, geometric_mean
from qdmerge.errors import EvaluationError
from qdmerge.merges import Mergeable, Regressing, plain_average, task_arithmetic
from qdmerge.reports._tables import FOUND
from qdmerge.runs._history import History
from qdmerge.runs._log import SolutionStore, solution_id
from qdmerge.runs._scores import Candidate, SplitScores, mean_interval, score_side_tasks
from qdmerge.search import CycleQD, Elite
from qdmerge.settings import FinalConfig

_SHORT: Mapping[CriterionName, str] = {"geometric_mean": "gmean"}
"""Criteria whose names are shorter in the names of candidates."""


def references(search: CycleQD) -> list[Candidate]:
    """Return base and experts, and plain average and regression mean if the space has them."""
    space = search.backend.space
    found = [
        Candidate(name, "base", x) if name == "base" else Candidate(f"expert:{name}", "expert", x)
        for name, x in space.seeds.items()
    ]
    if isinstance(space, Mergeable):
        found.append(Candidate("average", "average", plain_average(space)))
    if isinstance(space, Regressing):
        alike = [1 / len(space.experts)] * len(space.experts)
        found.append(Candidate("regmean", "regmean", space.regression_mean(alike)))
    return found


def _best_scale(
    make: Callable[[float], np.ndarray],
    scales: Sequence[float],
    scores: SplitScores,
    criterion: Criterion,
    stage: str,
) -> tuple[float, np.ndarray]:
    """Return the scale whose model is best on validation, and the model; the first if all fail."""
    models = {scale: make(scale) for scale in scales}
    scores.evaluate(list(models.values()), "validation", stage)
    known = [scale for scale, x in models.items() if scores.known(x, "validation")]
    if not known:
        return scales[0], models[scales[0]]
    best = max(known, key=lambda scale: criterion(scores.scores(models[scale], "validation")))
    return best, models[best]


def scaled_references(
    search: CycleQD, settings: FinalConfig, scores: SplitScores, criterion: Criterion
) -> list[Candidate]:
    """Return task arithmetic at the scale that is best on validation, if the space can merge."""
    space = search.backend.space
    if not isinstance(space, Mergeable):
        return []
    scale, x = _best_scale(
        lambda scale: task_arithmetic(space, scale),
        settings.task_arithmetic_scales,
        scores,
        criterion,
        "task arithmetic",
    )
    return [Candidate("task_arithmetic", "task_arithmetic", x, {"scale": scale})]


def aggregates(
    search: CycleQD, settings: FinalConfig, scores: SplitScores, criterion: Criterion
) -> list[Candidate]:
    """Return the paper's aggregate and its variants: elites by mean, and the best scale."""
    found = []
    for name, elite in (("aggregate", "quality"), ("aggregate_mean", "mean")):

        def make(scale: float, elite: Any = elite) -> np.ndarray:
            return search.aggregate(elite, scale)

        details = {"elite": elite}
        found.append(Candidate(name, "aggregate", make(1.0), {**details, "scale": 1.0}))
        scale, x = _best_scale(make, settings.aggregate_scales, scores, criterion, "aggregates")
        found.append(Candidate(f"{name}_scaled", "aggregate", x, {**details, "scale": scale}))
    return found


def elites(
    search: CycleQD,
    leading: int,
    criteria: Mapping[CriterionName, Criterion],
    children: bool = False,
) -> list[Candidate]:
    """Return each archive's best elite, and the ``leading`` ones by every criterion on validation;
    of equal ones the one with the higher mean leads. ``children`` leaves base and experts out.
    """
    left_out = {solution_id(x) for x in search.backend.space.seeds.values()} if children else set()
    by_id: dict[str, Elite] = {}
    found = []
    for task in search.tasks:
        kept = {solution_id(elite.x): elite for elite in search.elites(task)}
        kept = {identity: elite for identity, elite in kept.items() if identity not in left_out}
        by_id |= kept
        if kept:
            best = max(kept.values(), key=lambda elite: elite.scores[task])
            found.append(Candidate(f"best:{task}", "elite", best.x))
    by_mean = sorted(by_id, key=lambda id: (-np.mean(list(by_id[id].scores.values())), id))
    for name, criterion in criteria.items():
        ranked = sorted((by_id[id] for id in by_mean), key=lambda elite: -criterion(elite.scores))
        found += [
            Candidate(f"{_SHORT.get(name, name)}:{place}", "elite", elite.x)
            for place, elite in enumerate(ranked[:leading], start=1)
        ]
    return found


def distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates with each solution once, under its first name."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        found.setdefault(solution_id(candidate.x), candidate)
    return list(found.values())


def choose_and_test(
    search: CycleQD,
    settings: FinalConfig,
    scores: SplitScores,
    criteria: Mapping[CriterionName, Criterion],
    seed: int,
) -> dict[str, Any]:
    """Choose on the selection split, test once, and return the tables of ``results.json``. Base,
    experts, and one model of the search must be evaluated, else EvaluationError is raised.
    """
    criterion = criteria[settings.choose_by]
    _know_elites(search, scores)
    candidates: list[Candidate] = []
    if settings.table == "full":
        candidates += references(search)
        scores.evaluate([candidate.x for candidate in candidates], "validation", "references")
        candidates += scaled_references(search, settings, scores, criterion)
    found = elites(search, settings.leading, criteria, settings.candidates == "children")
    if settings.candidates == "all":
        found = [*aggregates(search, settings, scores, criterion), *found]
    candidates += distinct(found)
    everything = list(candidates)
    for split in ("validation", "selection"):
        scores.evaluate([candidate.x for candidate in candidates], split, split)
        candidates = _evaluated(candidates, candidates, scores, split)
    held_out = [
        {
            "name": one.name,
            "solution": solution_id(one.x),
            "selection": scores.scores(one.x, "selection"),
        }
        for one in candidates
        if one.kind in FOUND
    ]
    while True:
        picks = _picks(candidates, criteria, scores)
        tested = candidates if settings.table == "full" else list(dict.fromkeys(picks.values()))
        scores.evaluate([candidate.x for candidate in tested], "test", "test")
        left = _evaluated(candidates, tested, scores, "test")
        if len(left) == len(candidates):
            break
        candidates = left  # another one may be the best now
    chosen = picks[settings.choose_by]
    return {
        "candidates": [_row(one, scores, settings.bootstrap, seed) for one in tested],
        "chosen": chosen.name,
        "picks": {by: pick.name for by, pick in picks.items()},
        "held_out": held_out,
        "reported": {}
        if settings.table == "picks"
        else score_side_tasks(
            side_tasks(search.backend), tested, chosen, scores, settings.bootstrap, seed
        ),
        "dropped": {
            candidate.name: scores.failures[solution_id(candidate.x)]
            for candidate in everything
            if candidate not in candidates
        },
    }


def _picks(
    candidates: Sequence[Candidate],
    criteria: Mapping[CriterionName, Criterion],
    scores: SplitScores,
) -> dict[CriterionName, Candidate]:
    """Return the candidate of the search that each criterion picks on the selection split."""
    searched = [candidate for candidate in candidates if candidate.kind in FOUND]
    return {
        by: max(searched, key=lambda one: criterion(scores.scores(one.x, "selection")))
        for by, criterion in criteria.items()
    }


def _evaluated(
    candidates: Sequence[Candidate], tried: Sequence[Candidate], scores: SplitScores, split: str
) -> list[Candidate]:
    """Return the candidates without those whose evaluation on the split failed; raise
    EvaluationError if the table cannot do without one of these.
    """
    left = [one for one in candidates if one not in tried or scores.known(one.x, split)]
    for candidate in candidates:
        if candidate.kind in ("base", "expert") and candidate not in left:
            raise EvaluationError(
                f"{candidate.name} could not be evaluated "
                f"{scores.failures[solution_id(candidate.x)]}. The search is complete and kept; "
                "fix the cause, then resume"
            )
    if not any(candidate.kind in FOUND for candidate in left):
        if not scores.failures:
            raise EvaluationError("the search found no model that 'final.candidates' admits")
        raise EvaluationError(
            f"no model that the search found could be evaluated on {split}; the last cause: "
            f"{list(scores.failures.values())[-1]}. The search is complete and kept; fix the "
            "cause, then resume"
        )
    return left


def _know_elites(search: CycleQD, scores: SplitScores) -> None:
    for name, x in search.backend.space.seeds.items():
        scores.know(x, search.seed_scores[name].tolist())
    for task in search.tasks:
        for elite in search.elites(task):
            scores.know(elite.x, list(elite.scores.values()))


def _row(candidate: Candidate, scores: SplitScores, resamples: int, seed: int) -> dict[str, Any]:
    splits = {
        split: scores.scores(candidate.x, split) for split in ("validation", "selection", "test")
    }
    test = list(splits["test"].values())
    items = list(scores.items(candidate.x, "test").values())
    return {
        "name": candidate.name,
        "kind": candidate.kind,
        "solution": solution_id(candidate.x),
        "details": candidate.details,
        **splits,
        "test_also": scores.also(candidate.x, "test"),
        "validation_mean": float(np.mean(list(splits["validation"].values()))),
        "selection_mean": float(np.mean(list(splits["selection"].values()))),
        "test_mean": float(np.mean(test)),
        "test_gmean": geometric_mean(test) if min(test) >= 0 else None,
        "test_min": float(min(test)),
        "test_mean_ci95": mean_interval(items, resamples, seed),
    }


def incumbents(
    history: History, criterion: Criterion, scores: SplitScores, store: SolutionStore
) -> list[dict[str, Any]]:
    """Score the successive best models by validation on the selection split, which the search has
    not seen; leave out those whose evaluation failed. ``evaluations`` counts children up to each.
    """
    names = [task.name for task in history.tasks]
    best, evaluations, found = float("-inf"), 0, []
    for model in history.evaluated:
        evaluations += model.batch >= 0
        if model.scores is None:
            continue
        value = criterion(dict(zip(names, model.scores.tolist(), strict=True)))
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
