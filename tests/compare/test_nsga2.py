"""NSGA-II: pymoo's own search, from the experts and the average on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from moocore import hypervolume
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.optimize import minimize

from qdmerge.compare import NSGA2Emitter
from qdmerge.errors import ConfigError
from qdmerge.parts import EMITTERS
from qdmerge.schedulers import learns


@pytest.mark.usefixtures("no_global_randomness")
def test_it_is_pymoo_s_own_search(told: Any) -> None:
    made = told(NSGA2Emitter, population=12)
    x = made.evolve(15)
    low, high = made.emitter.box
    evaluated = []

    class Bumps(Problem):
        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *_: Any, **__: Any) -> None:
            evaluated.append(x)
            out["F"] = -made.scores(x)

    algorithm = NSGA2(pop_size=12, sampling=made.emitter.first_generation())
    problem = Bumps(n_var=4, n_obj=3, xl=low, xu=high)
    minimize(problem, algorithm, ("n_gen", 15), seed=1)
    np.testing.assert_array_equal(x, evaluated)


def test_the_first_generation_holds_what_is_known(told: Any) -> None:
    made = told(NSGA2Emitter, sigma=0.1)
    first = made.ask()
    assert first.shape == (15, 4)
    np.testing.assert_array_equal(first[0], made.space.x0)
    np.testing.assert_array_equal(first[1:4], np.eye(3, 4))
    noise = first[4:] - made.space.x0
    assert 0.06 < noise.std() < 0.14
    assert len(told(NSGA2Emitter, population=2).ask()) == 2


def test_the_box_reaches_beyond_base_and_experts(told: Any) -> None:
    """Within the bounds of the space."""
    made = told(NSGA2Emitter, margin=0.25, upper=1.1)
    low, high = made.emitter.box
    np.testing.assert_array_equal(low, [-0.25] * 4)
    np.testing.assert_array_equal(high, [1.1, 1.1, 1.1, 0.25])  # no expert has the fourth
    x = np.concatenate(made.evolve(10))
    assert (x >= low).all()
    assert (x <= high).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_scores_give_the_same_solutions(told: Any, dtype: type) -> None:
    asked = told(NSGA2Emitter, dtype=dtype).evolve(8)
    assert asked[-1].dtype == dtype
    again, other = told(NSGA2Emitter, dtype=dtype), told(NSGA2Emitter, dtype=dtype, seed=2)
    for x in asked:
        np.testing.assert_array_equal(again.ask(), x)
        again.tell(x, again.scores(x))
    assert (other.ask()[4:] != asked[0][4:]).all()
    assert learns(again.emitter)


def test_the_front_moves(searched: Callable[..., Any]) -> None:
    search, x, scores = searched(NSGA2Emitter)
    assert x.shape == (150, 4)
    experts = np.stack([search.seed_scores[name] for name in search.tasks])
    assert scores.min(axis=1).max() > 3 * experts.min(axis=1).max()
    front = search.scheduler.emitters["task0"][0]._algorithm.pop.get("F")
    assert hypervolume(front, ref=[0, 0, 0]) > 1.1 * hypervolume(-scores[:15], ref=[0, 0, 0])


def test_scores_after_those_of_the_tasks_are_not_looked_at(told: Any) -> None:
    made = told(NSGA2Emitter, tasks=2)
    made.evolve(2)
    assert made.emitter._algorithm.pop.get("F").shape == (15, 2)


def test_it_prints_nothing_and_never_ends(told: Any, capfd: pytest.CaptureFixture) -> None:
    made = told(NSGA2Emitter, population=4)
    for _ in range(120):  # nothing changes, which ends pymoo's own runs
        x = made.ask()
        made.tell(x, np.zeros((len(x), 3)))
    assert capfd.readouterr() == ("", "")


def test_asking_twice_is_no_harm(told: Any) -> None:
    made = told(NSGA2Emitter)
    np.testing.assert_array_equal(made.ask(), made.ask())
    made.evolve(2)


def test_one_task_is_refused(told: Any, searched: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="this search has one task; use CMA-ES or random search"):
        told(NSGA2Emitter, tasks=1)
    with pytest.raises(ConfigError, match="this search has one task"):
        searched(NSGA2Emitter, n_tasks=1, n_measures=2)


def test_a_missing_library_is_told_when_the_emitter_is_built(
    told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pymoo", None)
    with pytest.raises(ConfigError, match=r"NSGA-II needs pymoo: pip install 'qdmerge\[compare\]'"):
        told(NSGA2Emitter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 1}, "'population': Input should .* equal to 2 .got 1"),
        ({"sigma": -1}, "'sigma': Input should .* equal to 0 .got -1"),
        ({"margin": 0}, "'margin': Input should be greater than 0 .got 0"),
    ],
)
def test_wrong_options(told: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        told(NSGA2Emitter, **options)
    assert EMITTERS.problems("nsga2", options)
