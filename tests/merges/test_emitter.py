"""Recipes as emitters, on their own and in a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdmerge.archives import ArchiveSpec, Axis
from qdmerge.archives import grid as grid_archive
from qdmerge.emitters import EmitterSpec
from qdmerge.errors import ConfigError
from qdmerge.merges import Axes, RecipeEmitter, grid_size, plain_average
from qdmerge.parts import EMITTERS, SPACES
from qdmerge.runs import Run, build_search
from qdmerge.settings import parse_config
from qdmerge.spaces import Space, VectorSpace
from tests.trios import Trio


def build(space: Space, **options: Any) -> RecipeEmitter:
    archive = grid_archive(
        ArchiveSpec("coding", (Axis("db", 0, 1),), space.dim, space.dtype, 0.0, 1)
    )
    spec = EmitterSpec("coding", "coding", space, 1, 5)
    return EMITTERS.build("recipe", options, {"archive": archive, **spec.context})


def space_of(kind: str, trio: Trio) -> Any:
    return SPACES.build(kind, {}, {"vectors": trio.vectors()})


@pytest.mark.parametrize("recipe", ["average", "task_arithmetic", "tilted"])
@pytest.mark.parametrize("kind", ["expert", "layer"])
def test_linear_recipes_work_in_linear_spaces(trio: Trio, recipe: str, kind: str) -> None:
    space = space_of(kind, trio)
    x = build(space, recipe=recipe).ask()
    assert x.shape == (grid_size(recipe, 3), space.dim)
    assert x.dtype == np.float32
    if recipe == "average":
        np.testing.assert_array_equal(x[0], plain_average(space))
    if recipe == "tilted":
        np.testing.assert_allclose(x[1], space.merge([0.5, 0.8, 0.5]), rtol=1e-6)


@pytest.mark.parametrize("recipe", ["ties", "dare", "dare_ties", "slerp"])
def test_other_recipes_work_in_their_own_space(trio: Trio, recipe: str) -> None:
    space = space_of(recipe, trio)
    x = build(space, recipe=recipe, scales=[0.5, 1.0]).ask()
    assert len(x) == grid_size(recipe, 3, Axes(scales=[0.5, 1.0]))
    assert (x >= space.lower_bounds).all()
    assert (x <= space.upper_bounds).all()
    for one in x:
        assert all(t.isfinite().all() for _, t in space.tensors(one))


def test_regression_means_work_in_their_own_space(trio: Trio) -> None:
    space = space_of("regmean", trio)
    x = build(space, recipe="regmean", scales=[1.2], ridges=[0.1, 1.0]).ask()
    np.testing.assert_array_equal(
        x, [space.regression_mean([0.4] * 3, ridge) for ridge in (0.1, 1.0)]
    )
    assert x[1, -1] - x[0, -1] == pytest.approx(1)
    with pytest.raises(ConfigError, match="needs 'space: regmean'; the space is 'expert'"):
        build(space_of("expert", trio), recipe="regmean")


def test_experts_are_the_space_s_own(trio: Trio) -> None:
    for kind in ("ties", "expert", "slerp"):
        space = space_of(kind, trio)
        x = build(space, recipe="experts").ask()
        np.testing.assert_array_equal(x, [space.seeds[name] for name in trio.experts])


def test_what_does_not_fit_is_refused(trio: Trio) -> None:
    with pytest.raises(ConfigError, match="needs 'space: ties'; the space is 'expert'"):
        build(space_of("expert", trio), recipe="ties")
    with pytest.raises(ConfigError, match="space 'ties' cannot express; use 'space: expert'"):
        build(space_of("ties", trio), recipe="task_arithmetic")
    with pytest.raises(ConfigError, match="there are none"):
        build(VectorSpace({"base": np.zeros(2)}), recipe="average")
    with pytest.raises(ConfigError, match="recipe"):
        build(space_of("ties", trio), recipe="tie")
    with pytest.raises(ConfigError, match="densities"):
        build(space_of("ties", trio), recipe="ties", densities=[2.0])


def test_the_grid_is_emitted_once(trio: Trio) -> None:
    emitter = build(space_of("ties", trio), recipe="ties")
    assert emitter.batch_size == 12
    assert len(emitter.ask()) == 12
    with pytest.raises(ConfigError, match="set 'evaluations: 12'"):
        emitter.ask()


def config(evaluations: int, **emitter: Any) -> Any:
    return parse_config(
        {
            "backend": "toy",
            "evaluations": evaluations,
            "scheduler": "fixed",
            "emitters": [{"name": "recipe", **emitter}],
        }
    )


def test_a_run_tries_the_whole_grid(tmp_path: Path) -> None:
    settings = config(grid_size("task_arithmetic", 3), recipe="task_arithmetic")
    results = Run.create(settings, tmp_path / "run").execute()
    assert results["evaluations"] == 9
    kinds = {candidate["kind"] for candidate in results["candidates"]}
    assert {"base", "expert", "elite"} <= kinds
    assert Run.open(tmp_path / "run").execute()["candidates"] == results["candidates"]


def test_a_budget_beyond_the_grid_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'evaluations: 1'"):
        Run.create(config(2, recipe="average"), tmp_path / "run").execute()


def test_a_recipe_that_does_not_fit_stops_before_anything_is_evaluated(
    toy: Callable[..., Any],
) -> None:
    with pytest.raises(ConfigError, match="needs 'space: ties'; the space is 'vector'"):
        build_search(config(12, recipe="ties"), toy())
