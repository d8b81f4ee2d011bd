"""Runs of made-up methods whose true quality is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qdmerge.compare._rows import Pick, RunRow
from qdmerge.criteria import CRITERIA, over_tasks

SKILL = {
    "recommended": 0.62,
    "paper": 0.56,
    "nsga2": 0.55,
    "cma_es": 0.54,
    "random_uniform": 0.52,
    "random_gaussian": 0.53,
    "map_elites": 0.54,
    "m2n2": 0.55,
    "task_arithmetic": 0.50,
    "ties": 0.48,
    "dare_ties_tuned_on_grid": 0.47,
    "average": 0.40,
}
DETERMINISTIC = ("task_arithmetic", "ties", "dare_ties_tuned_on_grid", "average")


def task_names(count: int) -> list[str]:
    return ["arithmetic", "sorting", "logic", "date formats", "brackets", "spelling"][:count]


def make_run(
    method: str,
    seed: int | None,
    skill: float,
    tasks: Sequence[str],
    test_bed: str = "zoo",
    evaluations: int = 150,
    items: int | None = 80,
    spread: float = 0.03,
) -> RunRow:
    """A run whose models score about ``skill``; the items of a task are equally hard for all."""
    rng = np.random.default_rng([sum(map(ord, method + test_bed)), seed or 0])
    shared = np.random.default_rng(sum(map(ord, test_bed)))
    level = np.clip(skill + rng.normal(0, spread, len(tasks)), 0.02, 0.98)
    hardness = [shared.uniform(-0.3, 0.3, items or 1) for _ in tasks]

    def drawn() -> dict[str, np.ndarray | None]:
        if items is None:
            return dict.fromkeys(tasks)
        return {
            task: (rng.random(items) < np.clip(level[k] + hardness[k], 0, 1)).astype(float)
            for k, task in enumerate(tasks)
        }

    picks = {}
    for criterion in CRITERIA:
        own = drawn()
        test = {
            task: float(level[k] if one is None else one.mean())
            for k, (task, one) in enumerate(own.items())
        }
        scores = dict(zip(tasks, level.tolist(), strict=True))
        picks[criterion] = Pick(f"gmean:{seed}", f"id{seed}", scores, scores, test, own)
    trade = rng.dirichlet(np.ones(len(tasks)), 40 if seed is not None else 4)
    points = np.clip(level + 0.25 * (trade - 1 / len(tasks)) * len(tasks) / 2, 0, 1)
    rise = 1 - 0.4 * np.exp(-np.arange(1, evaluations + 1) / (0.25 * evaluations))
    noise = rng.normal(0, 0.05, (evaluations, len(tasks)))
    evaluated = [
        np.clip(level * now + jitter, 0, 1) for now, jitter in zip(rise, noise, strict=True)
    ]
    evaluated[::17] = [None] * len(evaluated[::17])
    seeds = np.clip(0.25 + 0.4 * np.eye(len(tasks)), 0, 1)
    return RunRow(
        method=method,
        seed=seed,
        test_bed=test_bed,
        evaluations=evaluations,
        seconds=float(evaluations),
        picks=picks,
        points=points,
        evaluated=evaluated,
        seeds=seeds,
        incumbents=incumbents(evaluated, seeds, rng),
    )


def incumbents(
    evaluated: Sequence[np.ndarray | None], seeds: np.ndarray, rng: np.random.Generator
) -> list[tuple[int, np.ndarray]]:
    """The best so far by geometric mean, scored again with noise."""
    best = over_tasks("geometric_mean", seeds).argmax()
    found = [(0, seeds[best])]
    top = float(over_tasks("geometric_mean", seeds[best]))
    for number, scores in enumerate(evaluated, start=1):
        if scores is not None and (value := float(over_tasks("geometric_mean", scores))) > top:
            top = value
            found.append((number, np.clip(scores + rng.normal(-0.02, 0.03, len(scores)), 0, 1)))
    return found


def make_study(
    tasks: Sequence[str],
    seeds: int = 5,
    skill: Mapping[str, float] = SKILL,
    test_beds: Sequence[str] = ("zoo",),
) -> list[RunRow]:
    """All methods; those without randomness have one run of few evaluations per test_bed."""
    rows = []
    for test_bed in test_beds:
        for method, level in skill.items():
            fixed = method in DETERMINISTIC
            for seed in [None] if fixed else range(seeds):
                spent = 9 if fixed else 150
                rows.append(make_run(method, seed, level, tasks, test_bed, spent))
    return rows
