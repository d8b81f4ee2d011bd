"""What can be told before a search: whether merging these experts is likely to pay."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from qdmerge.criteria import CRITERIA
from qdmerge.emitters import expert_of
from qdmerge.errors import EvaluationError, UnsupportedError
from qdmerge.execution import Evaluator, SerialExecutor, limit_threads
from qdmerge.guide import Climb, draw_rows, guide_of
from qdmerge.merges import Mergeable, plain_average, task_arithmetic
from qdmerge.parts import Part
from qdmerge.runs._building import BuildBackend, SharedBackend, final_criteria
from qdmerge.runs._search import Listener, RunProgress, stage_progress
from qdmerge.settings import RunConfig

if TYPE_CHECKING:
    from qdmerge.backend import GenomeBackend

KEPT = 0.9
"""Share of every own expert's score with which a uniform merge needs no search."""

MARGIN = 0.02
"""Differences count from this share of what the own experts have, together or on a task."""

ITEMS = 24
"""Unlabeled items of each task on which experts are compared."""

_NOT_LINEAR = ("regmean", "ties", "dare", "dare_ties", "slerp")

Scores = dict[str, float]
"""Task name to score."""


def forecast(
    config: RunConfig,
    steps: int = 30,
    rate: float = 0.1,
    listener: Listener = lambda progress: None,
) -> dict[str, Any]:
    """Tell from a few evaluations on validation whether merging is likely to pay.

    Scored are base, experts, the plain average, uniform merges (task arithmetic at
    ``final.task_arithmetic_scales``) and, where the backend has a guide, the end of a climb from
    the best of them by ``final.choose_by``. Parts of the search do not matter; where the configured
    space expresses no linear merges, ``core`` takes its place.

    Args:
        config: The configuration of a run.
        steps: Steps along the guide, with all tasks alike; 0 for none.
        rate: Their first rate, in units of the space; it falls to 0.
        listener: Receives the progress.

    Returns:
        Plain data:

        - ``scores``: of ``base``, ``own`` (each task's expert, or the best one), ``average``,
          ``uniform`` and, after a climb, ``guided``, each by task.
        - ``experts``: the scores of all experts, each by task.
        - ``together``: by the criterion, ``single`` (the best of base and experts) and all models
          of ``scores``; ``own`` is all own experts at once.
        - ``headroom``: by task, the own expert's score minus that of ``uniform``.
        - ``kept``: of ``average``, ``uniform`` and ``guided``, by task, what they have of the
          difference of own expert and base; None where there is none.
        - ``pairs``: of own experts; see :func:`_pair`.
        - ``verdict``: "one", "uniform", "guided", "search" or "no"; ``sentence``, the same for
          people; ``thresholds`` of both.
        - ``cost``: ``evaluations``, gradient ``passes`` (comparing experts is one for each, and one
          for the base), and seconds ``evaluating``, ``guiding`` and of ``all``.
        - ``criterion``, ``space``, ``scale`` of the uniform merge, ``steps`` taken, ``single``.

    Raises:
        UnsupportedError: The backend has less than two experts, or its space cannot merge them.
        EvaluationError: A model could not be evaluated.
    """
    began = time.perf_counter()
    limit_threads(config.execution.threads or os.cpu_count() or 1)
    config.backend.prepare(stage_progress(listener))
    listener(RunProgress("building the backend", 0, 0))
    if config.space is not None and config.space.name in _NOT_LINEAR:
        config = config.model_copy(update={"space": Part(name="core")})
    backend = BuildBackend(config)()
    try:
        _check_mergeable(config.backend.name, backend)
        steps = steps if getattr(backend, "guide", None) is not None else 0
        if steps:
            SharedBackend(backend, SerialExecutor(backend)).prepare(listener, guided=True)
        found = _Forecast(config, backend, listener).tell(steps, rate)
    finally:
        backend.close()
    found["cost"]["all"] = time.perf_counter() - began
    return found


def _check_mergeable(name: str, backend: GenomeBackend) -> None:
    space = backend.space
    if not isinstance(space, Mergeable):
        raise UnsupportedError(
            "a forecast needs a space that expresses linear merges of experts, but backend "
            f"'{name}' has '{space.name}', which has no method 'merge'"
        )
    if len(space.experts) < 2:
        raise UnsupportedError(
            f"a forecast needs at least two experts to merge, and backend '{name}' has "
            f"{len(space.experts)}"
        )


class _Forecast:
    """A forecast under way, with what it has cost."""

    def __init__(self, config: RunConfig, backend: GenomeBackend, listener: Listener) -> None:
        self._scales = config.final.task_arithmetic_scales
        self._criterion = next(iter(final_criteria(config.final, backend.tasks).values()))
        self._backend = backend
        self._evaluator = Evaluator(SerialExecutor(backend), config.execution.retries)
        self._listener = listener
        self._tasks = [task.name for task in backend.tasks]
        self._total = len(backend.space.seeds) + 1 + len(self._scales)
        self._cost = {"evaluations": 0, "passes": 0, "evaluating": 0.0, "guiding": 0.0}

    def tell(self, steps: int, rate: float) -> dict[str, Any]:
        """Score the models; see :func:`forecast`."""
        space = self._backend.space
        assert isinstance(space, Mergeable)
        self._total += steps > 0
        seeds = {name: self._score(name, x)[0] for name, x in space.seeds.items()}
        base, experts = seeds["base"], {name: seeds[name] for name in space.experts}
        owners = {
            task.name: expert_of(task, self._backend.space)
            or max(experts, key=lambda name, on=task.name: experts[name][on])  # type: ignore[misc]
            for task in self._backend.tasks
        }
        average, x = self._score("average", plain_average(space))
        scale, uniform = 1 / len(experts), average
        for tried in self._scales:
            scores, merged = self._score(f"merge x {tried:g}", task_arithmetic(space, tried))
            if self._criterion(scores) > self._criterion(uniform):
                scale, uniform, x = tried, scores, merged
        own = {task: experts[name][task] for task, name in owners.items()}
        models = {"base": base, "own": own, "average": average, "uniform": uniform}
        if steps:
            climb = Climb((1 / len(self._tasks),) * len(self._tasks), steps, rate)
            models["guided"], _ = self._score(f"{steps} guided steps", x, climb)
        together = {name: self._criterion(scores) for name, scores in models.items()}
        single = max(seeds, key=lambda name: self._criterion(seeds[name]))
        together["single"] = self._criterion(seeds[single])
        verdict = _verdict(models, together)
        found = {
            "criterion": self._criterion.name,
            "space": self._backend.space.name,
            "scale": scale,
            "steps": steps,
            "single": single if single == "base" else f"expert {single}",
            "scores": models,
            "experts": experts,
            "together": together,
            "headroom": {task: own[task] - uniform[task] for task in self._tasks},
            "kept": {
                name: {task: _kept(models, name, task) for task in self._tasks}
                for name in ("average", "uniform", "guided")
                if name in models
            },
            "pairs": self._pairs(owners, experts, steps > 0),
            "verdict": verdict,
            "thresholds": {"kept": KEPT, "margin": MARGIN},
            "cost": self._cost,
        }
        return {**found, "sentence": _sentence(found)}

    def _score(
        self, name: str, x: np.ndarray, climb: Climb | None = None
    ) -> tuple[Scores, np.ndarray]:
        cost = self._cost
        self._listener(RunProgress("scoring", int(cost["evaluations"]), self._total))
        outcome = self._evaluator.submit(x, "validation", climb).result()
        told = outcome.evaluation
        if told is None:
            raise EvaluationError(f"{name} could not be evaluated: {outcome.cause}")
        cost["evaluations"] += 1
        cost["evaluating"] += outcome.seconds
        cost["passes"] += told.passes
        cost["guiding"] += told.guide_seconds
        return dict(zip(self._tasks, told.scores[0].tolist(), strict=True)), x

    def _pairs(
        self, owners: Mapping[str, str], experts: Mapping[str, Scores], guided: bool
    ) -> list[dict[str, Any]]:
        from qdmerge.spaces import WeightSpace, singular_value_similarity, task_vector_cosine

        self._listener(RunProgress("comparing experts", 0, 0))
        losses = self._losses(set(owners.values())) if guided else None
        space = self._backend.space
        found = []
        for one, other in combinations(owners, 2):
            a, b = owners[one], owners[other]
            if a == b:
                continue
            pair = _pair((one, a), (other, b), experts, losses)
            if isinstance(space, WeightSpace):
                pair["similarity"] = _number(singular_value_similarity(space.vectors, a, b))
                pair["cosine"] = _number(task_vector_cosine(space.vectors, a, b))
            found.append(pair)
        return found

    def _losses(self, names: set[str]) -> dict[str, Scores]:
        """Return the guide's losses of base and experts, each by task."""
        guide, seeds = guide_of(self._backend), self._backend.space.seeds
        began = time.perf_counter()
        rows = draw_rows(guide.sizes, self._tasks, ITEMS * len(self._tasks), 0, 0)
        nothing = dict.fromkeys(self._tasks, 0.0)
        losses = {
            name: guide.gradient(seeds[name], rows, nothing)[0]
            for name in seeds
            if name == "base" or name in names
        }
        self._cost["passes"] += len(losses)
        self._cost["guiding"] += time.perf_counter() - began
        return losses


def _pair(
    first: tuple[str, str],
    second: tuple[str, str],
    experts: Mapping[str, Scores],
    losses: Mapping[str, Scores] | None,
) -> dict[str, Any]:
    """Return how far two experts, each given after its task, are apart.

    Args:
        first: A task and its expert.
        second: The same.
        experts: Scores of the experts.
        losses: Losses of base and experts, if there is a guide.

    Returns:
        ``tasks`` and ``experts``; ``scores``, of the first expert on the second's task and the
        other way round; and ``disagreement``, of the first expert with what the second one says on
        its items, and the other way round, 1 being as far as the base is (None without a guide, or
        where the base says the same).
    """
    (one, a), (other, b) = first, second

    def apart(name: str, task: str, own: str) -> float | None:
        if losses is None:
            return None
        whole = losses["base"][task] - losses[own][task]
        return (losses[name][task] - losses[own][task]) / whole if whole > 0 else None

    return {
        "tasks": [one, other],
        "experts": [a, b],
        "scores": [experts[a][other], experts[b][one]],
        "disagreement": [apart(a, other, b), apart(b, one, a)],
        "similarity": None,
        "cosine": None,
    }


def _kept(models: Mapping[str, Scores], name: str, task: str) -> float | None:
    gained = models["own"][task] - models["base"][task]
    return (models[name][task] - models["base"][task]) / gained if gained > 0 else None


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _least(models: Mapping[str, Scores], name: str) -> float:
    """Return the least share of the own expert's score, over the tasks."""
    return min(models[name][task] / own if own > 0 else 1.0 for task, own in models["own"].items())


def _lost(models: Mapping[str, Scores], name: str) -> list[str]:
    """Return the tasks on which a merge is worse than the base."""
    return [
        task
        for task, base in models["base"].items()
        if base - models[name][task] > MARGIN * abs(models["own"][task])
    ]


def _verdict(models: Mapping[str, Scores], together: Mapping[str, float]) -> str:
    margin = MARGIN * abs(together["own"])

    def beyond(value: float, other: str) -> bool:
        return value - together[other] > margin

    def pays(name: str) -> bool:
        return name in together and beyond(together[name], "single") and not _lost(models, name)

    if not beyond(together["own"], "single"):
        return "one"
    if pays("uniform") and _least(models, "uniform") >= KEPT:
        return "uniform"
    if pays("guided") and (beyond(together["guided"], "uniform") or not pays("uniform")):
        return "guided"
    return "search" if pays("uniform") else "no"


def _sentence(found: Mapping[str, Any]) -> str:
    models, together = found["scores"], found["together"]
    what = CRITERIA[found["criterion"]]
    single = f"{found['single']} alone has {together['single']:.3f}"
    uniform = f"the best uniform merge (x {found['scale']:.2g}) {together['uniform']:.3f}"
    if found["verdict"] == "one":
        return (
            f"Merging can hardly pay: {found['single']} alone has a {what} of "
            f"{together['single']:.3f}, all own experts together {together['own']:.3f}; use it."
        )
    if found["verdict"] == "uniform":
        return (
            f"Merging pays, and hardly needs a search: by {what} {single}, {uniform}, which keeps "
            f"{_least(models, 'uniform'):.0%} or more of every own expert; use task arithmetic."
        )
    if found["verdict"] == "guided":
        return (
            f"Merging is likely to pay with the guide: by {what} {single}, {uniform}, and "
            f"{found['steps']} guided steps from it {together['guided']:.3f}, with "
            f"{_least(models, 'guided'):.0%} or more of every own expert; search with "
            "--set 'start=[guided]'."
        )
    if found["verdict"] == "search":
        return (
            f"Merging is likely to pay: by {what} {single}, {uniform}, and all own experts "
            f"together {together['own']:.3f}; search for the rest (--search recommended)."
        )
    best = "guided" if found["steps"] else "uniform"
    guided = f", {found['steps']} guided steps {together['guided']:.3f}" if found["steps"] else ""
    lost = _lost(models, best)
    worse = f", and is worse than the base on {', '.join(lost)}" if lost else ""
    return (
        f"Merging is unlikely to pay: by {what} {single}, {uniform}{guided}{worse}; train experts "
        "that share more (replay, fewer steps), or leave some out."
    )
