"""Methods as changes of a configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qdmerge.compare._methods import (
    METHODS,
    DomainFacts,
    Method,
    configure,
    find_methods,
    incompatibilities,
)
from qdmerge.errors import ConfigError
from qdmerge.settings import RunConfig, load_config

LOSSES = ("agreement", "entropy")
GROUND = DomainFacts(tasks=3, experts=3, weights=True, calibrated=True, objectives=LOSSES)


def regressing() -> RunConfig:
    return load_config("llm-tiny", ["space=regmean", "start=[regmean]"], models=False)


@pytest.mark.parametrize(
    ("method", "begins"),
    [("config", True), ("unguided", True), ("map_elites", False), ("random", False),
     ("average", False), ("ties", False), ("regmean", False), ("paper", False)],
)  # fmt: skip
def test_a_configured_start_is_for_the_configured_space(method: str, begins: bool) -> None:
    run = configure(METHODS[method], regressing(), seed=1, evaluations=50, facts=GROUND)
    assert [part.recipe for part in run.start] == ["regmean"] * begins


def test_searches_that_are_told_of_nothing_else_begin_with_nothing_else() -> None:
    config = load_config("llm-tiny", ["space=spectral", "start=[average]"], models=False)
    begun = {
        name: bool(configure(METHODS[name], config, seed=1, evaluations=50, facts=GROUND).start)
        for name in ("random", "cma_es", "nsga2", "m2n2", "map_elites", "config", "average")
    }
    assert [name for name, begins in begun.items() if begins] == ["map_elites", "config"]


def test_settings_that_tell_no_number_leave_it_open() -> None:
    config = regressing()
    assert DomainFacts.from_settings(config) == GROUND
    bare = config.backend.model_copy(update={"experts": {}, "tasks": {}})
    told = DomainFacts.from_settings(config.model_copy(update={"backend": bare}))
    assert (told.tasks, told.experts) == (None, None)
    assert DomainFacts.from_settings(load_config("toy")).experts is None


def test_every_seed_of_dare_drops_other_elements() -> None:
    for name in ("dare", "dare_ties"):
        runs = [
            configure(METHODS[name], regressing(), seed=seed, evaluations=50, facts=GROUND)
            for seed in (1, 2)
        ]
        assert [run.space.options for run in runs if run.space] == [{"seed": 1}, {"seed": 2}]


def test_methods_that_measure_layers_need_a_backend_that_shows_them() -> None:
    methods = {name: METHODS[name] for name in ("regmean", "unguided", "ties")}
    found = incompatibilities(methods, regressing(), replace(GROUND, calibrated=False))
    assert [line.split("'")[1] for line in found.splitlines()] == ["regmean", "unguided"]
    assert "which backend 'llm' does not give for all of them; leave it out" in found
    assert incompatibilities(methods, regressing(), GROUND) == ""


def test_the_recommended_search_does_without_a_guide_where_there_is_none() -> None:
    config, method = load_config("llm-tiny", models=False), METHODS["recommended"]
    for objectives, other in ((LOSSES, "recommended"), ((), "unguided")):
        facts = replace(GROUND, objectives=objectives)
        run, expected = (
            configure(one, config, seed=1, evaluations=50, facts=facts)
            for one in (method, METHODS[other])
        )
        assert run == expected
        assert incompatibilities({"recommended": method}, config, facts) == ""
    assert run.space is not None
    assert run.space.name == "regmean"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["space=spectral", "start=[regmean]"], "recipe 'regmean' needs 'space: regmean'"),
        (["start=[regmean]"], "recipe 'regmean' needs 'space: regmean'"),
        (["space=regmean", "start=[average]"], "which the space 'regmean' cannot express"),
        (["space=regmean", "start=[{recipe: regmean, ridges: [.inf]}]"], "finite"),
        (["space=regmean", "start=[{recipe: regmean, ridges: [0]}]"], "greater than 0"),
        (["space={name: regmean, ridge: .inf}"], "ridge"),
        (["space={name: regmean, examples: 0}"], "examples"),
    ],
)
def test_starts_and_spaces_that_do_not_fit(settings: list[str], message: str) -> Any:
    with pytest.raises(ConfigError, match=message):
        load_config("llm-tiny", settings, models=False)


@pytest.mark.parametrize(
    ("method", "space", "models"),
    [("guided", "core", 6 + 3 + 3 + 3), ("distill", "dense", 6 + 3), ("adamerging", "layer", 1 + 4),
     ("adamerging_task", "expert", 1 + 4)],
)  # fmt: skip
def test_climbs_are_followed_by_no_search(method: str, space: str, models: int) -> None:
    run = configure(METHODS[method], regressing(), seed=1, evaluations=50, facts=GROUND, seconds=9)
    assert run.space is not None
    assert run.space.name == space
    assert (run.evaluations, run.emitters, run.seconds) == (models, [], 9)
    assert run.final.candidates == "children"
    assert METHODS[method].seeded


def test_methods_name_the_loss_that_they_need() -> None:
    methods = {name: METHODS[name] for name in ("guided", "distill", "adamerging", "ties")}
    methods["plane"] = Method(start=["plane"])
    without = replace(GROUND, objectives=())
    lines = incompatibilities(methods, regressing(), without).splitlines()
    assert [line.split("'")[1] for line in lines] == ["guided", "distill", "adamerging", "plane"]
    only = replace(GROUND, objectives=("agreement",))
    assert incompatibilities(methods, regressing(), only) == (
        "method 'adamerging' needs a guide with the loss 'entropy', which backend 'llm' does not "
        "give; leave it out"
    )


def test_a_method_of_a_file_may_climb_with_and_without_a_search(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        "alone: {space: core, start: [{recipe: guided, steps: 9, branch_steps: 0}, average]}\n"
        "first: {space: core, changes: {start: [guided]}}\n"
    )
    runs = {
        name: configure(method, regressing(), seed=1, evaluations=50, facts=GROUND)
        for name, method in find_methods([str(file)]).items()
    }
    assert [part.recipe for part in runs["alone"].start] == ["guided", "average"]
    assert (runs["alone"].evaluations, runs["alone"].emitters) == (6 + 1 + 1, [])
    assert [part.recipe for part in runs["first"].start] == ["guided"]
    assert runs["first"].emitters
    assert runs["first"].final.candidates == "all"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("{recipe: average, start: [guided]}", "'start' stands alone"),
        ("{start: [guided], changes: {start: [average]}}", "'start' stands alone"),
        ("{changes: {seconds: 5}}", "seconds: the comparison sets this for all methods"),
    ],
)
def test_a_method_that_is_two_things_is_refused(tmp_path: Path, method: str, message: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(f"own: {method}\n")
    with pytest.raises(ConfigError, match=message):
        find_methods([str(file)])
