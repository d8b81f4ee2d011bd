"""CMA-ES: the library's own search, on one number, without its noise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cma
import numpy as np
import pytest

from qdmerge.compare import CMAESEmitter
from qdmerge.errors import ConfigError
from qdmerge.parts import EMITTERS
from qdmerge.schedulers import learns

OBJECTIVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda s: (s[:, 0] + s[:, 1] + s[:, 2]) / 3,
    "geometric_mean": lambda s: np.exp(np.log(s).mean(axis=1)),
    "minimum": lambda s: np.sort(s, axis=1)[:, 0],
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_is_the_library_s_own_search(objective: str, searched: Callable[..., Any]) -> None:
    """Under the scheduler, with three archives beside it, as driven directly."""
    specs = []

    def factory(archive: Any, spec: Any) -> Any:
        specs.append(spec)
        return CMAESEmitter(archive, spec, objective=objective)

    search, x, _ = searched(factory)
    seed = next(spec.seed for spec in specs if spec.task == "task0")
    rng = np.random.default_rng([seed, 0])
    options = {"bounds": [-2, 2], "randn": lambda *n: rng.standard_normal(n), "verbose": -9}
    direct = cma.CMAEvolutionStrategy(search.backend.space.x0, 0.2, options | {"seed": np.nan})
    expected = []
    while len(expected) < len(x):
        asked = direct.ask()
        scores = search.backend.evaluate(np.stack(asked), "validation").scores
        direct.tell(asked, list(-OBJECTIVES[objective](scores)))
        expected += asked
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-9)
    assert len(x) == 152  # 19 generations of 8


def test_it_climbs(searched: Callable[..., Any]) -> None:
    search, _, scores = searched(CMAESEmitter)
    experts = np.stack([search.seed_scores[name] for name in search.tasks])
    assert scores.mean(axis=1).max() > experts.mean(axis=1).max()
    assert scores.min(axis=1).max() > 3 * experts.min(axis=1).max()
    assert scores[-40:].mean() > scores[:40].mean()


@pytest.mark.usefixtures("no_global_randomness")
@pytest.mark.parametrize("options", [{}, {"diagonal": True}, {"popsize": 5, "sigma0": 0.05}])
def test_the_same_scores_give_the_same_solutions(told: Any, options: dict[str, Any]) -> None:
    asked = told(CMAESEmitter, **options).evolve(12)
    again, other = told(CMAESEmitter, **options), told(CMAESEmitter, seed=2, **options)
    for x in asked:
        np.testing.assert_array_equal(again.ask(), x)
        again.tell(x, again.scores(x))
    assert (other.ask() != asked[0]).all()
    assert len(asked[0]) == options.get("popsize", 8)
    assert learns(again.emitter)


def test_scores_after_those_of_the_tasks_are_not_looked_at(told: Any) -> None:
    """With two tasks, the second measure is the domain's own."""
    made = told(CMAESEmitter, tasks=2, objective="minimum")
    x = np.concatenate(made.evolve(40))
    np.testing.assert_allclose(x[-8:, :2].mean(axis=0), 0.5, atol=0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_and_dtype_of_the_space(told: Any, dtype: type) -> None:
    made = told(CMAESEmitter, sigma0=1.0, lower=-0.1, upper=1.1, dtype=dtype)
    x = np.concatenate(made.evolve(10))
    assert x.dtype == dtype
    assert (x >= made.space.lower_bounds).all()
    assert (x <= made.space.upper_bounds).all()


def test_it_starts_again_from_the_average_with_twice_the_population(told: Any) -> None:
    """Where nothing distinguishes the solutions, the library stops."""
    made = told(CMAESEmitter, sigma0=0.01)
    generations = []
    while made.emitter.starts < 3:
        generations.append(made.ask())
        made.tell(generations[-1], np.zeros((len(generations[-1]), 3)))
    sizes = [len(x) for x in generations]
    assert sorted(set(sizes)) == [8, 16, 32]
    firsts = [generations[sizes.index(size)] for size in (8, 16, 32)]
    for first in firsts:
        np.testing.assert_allclose(first, np.tile(made.space.x0, (len(first), 1)), atol=0.06)
    assert len(np.unique(np.concatenate(firsts)[:, 0])) == 8 + 16 + 32


def test_asking_twice_is_no_harm(told: Any) -> None:
    """The scheduler tells nobody while every solution so far failed."""
    made = told(CMAESEmitter)
    assert (made.ask() != made.ask()).all()
    made.evolve(3)


def test_it_prints_and_writes_nothing(
    told: Any,
    capfd: pytest.CaptureFixture,
    recwarn: pytest.WarningsRecorder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cma_signals.in").write_text("{'timeout': 0}")  # would stop it
    made = told(CMAESEmitter)
    made.evolve(5)
    assert made.emitter.starts == 1
    for _ in range(3):
        x = made.ask()
        made.tell(x, np.zeros((len(x), 3)))
    assert capfd.readouterr() == ("", "")
    assert not [str(warning.message) for warning in recwarn]
    assert [path.name for path in tmp_path.iterdir()] == ["cma_signals.in"]


def test_large_spaces_get_a_diagonal_covariance(told: Any) -> None:
    """A full one of 5000 coordinates would take 200 MB."""
    x = told(CMAESEmitter, dim=5000, popsize=4).evolve(2)
    assert x[0].shape == (4, 5000)


def test_a_missing_library_is_told_when_the_emitter_is_built(
    told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(ConfigError, match=r"CMA-ES needs cma: pip install 'qdmerge\[compare\]'"):
        told(CMAESEmitter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "median"}, "'objective': Input should be 'mean', .* .got 'median'"),
        ({"sigma0": 0}, "'sigma0': Input should be greater than 0 .got 0"),
        ({"popsize": 1}, "'popsize': Input should .* equal to 2 .got 1"),
    ],
)
def test_wrong_options(told: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        told(CMAESEmitter, **options)
    assert EMITTERS.problems("scalar_cma_es", options)


def test_one_coordinate_is_refused(told: Any) -> None:
    with pytest.raises(ConfigError, match="needs at least two coordinates"):
        told(CMAESEmitter, dim=1)
