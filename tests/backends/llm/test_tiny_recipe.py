from __future__ import annotations

from dataclasses import fields, replace

import pytest

from qdmerge_llm.config import LLMConfig
from qdmerge_zoo.llm import CONFLICTS, TASKS, Recipe, Stage


@pytest.mark.parametrize(
    "recipe", [Recipe(), Recipe(seed=5), Recipe.micro(), Recipe.of(0, 2, tasks=6)]
)
def test_a_recipe_survives_its_text(recipe: Recipe) -> None:
    assert Recipe.load(recipe.dump()) == recipe


def test_every_setting_changes_the_key() -> None:
    recipe = Recipe()
    numbers = [field.name for field in fields(Recipe) if field.name not in ("base", "expert")]
    others = [replace(recipe, **{name: getattr(recipe, name) + 1}) for name in numbers]
    for field in fields(Stage):
        old = getattr(recipe.expert, field.name)
        changed = replace(recipe.expert, **{field.name: "muon" if old == "adamw" else old + 1})
        others += [replace(recipe, expert=changed), replace(recipe, base=changed)]
    assert len({recipe.key, *(other.key for other in others)}) == 1 + len(others)


def test_the_easy_zoo_keeps_the_key_it_had_before_there_were_others() -> None:
    assert Recipe().key == Recipe.of(0, 0).key == "v1-0dd7bc10713d"
    assert Recipe.micro().key == "v1-d65199a8108f"
    assert Recipe.load(Recipe().dump()) == Recipe()


def test_every_level_and_number_of_tasks_is_a_zoo_of_its_own() -> None:
    zoos = [Recipe.of(0, level, tasks) for level in CONFLICTS for tasks in (3, 4, 6)]
    assert len({zoo.key for zoo in zoos}) == len(zoos)
    assert [zoo.names for zoo in zoos[:3]] == [TASKS[:3], TASKS[:4], TASKS]
    replays = [replay for replay, _ in CONFLICTS.values()]
    assert replays == sorted(replays, reverse=True)


def test_experts_are_trained_as_unequally_as_the_spread_says() -> None:
    recipe = replace(Recipe(tasks=3, spread=2.0), expert=replace(Recipe().expert, steps=100))
    assert [recipe.stage(name).steps for name in recipe.names] == [200, 100, 50]
    assert recipe.stage("all").steps == 350
    assert recipe.stage("base") == recipe.base
    assert {Recipe(tasks=6).stage(name).steps for name in TASKS} == {Recipe().expert.steps}


def test_more_tasks_are_trained_longer() -> None:
    three, four, six = (Recipe.of(0, 1, tasks) for tasks in (3, 4, 6))
    assert three.base == Recipe().base
    assert three.expert.steps == Recipe().expert.steps
    assert [zoo.base.steps for zoo in (three, four, six)] == [140, 187, 280]
    assert [zoo.expert.steps for zoo in (three, four, six)] == [180, 210, 270]


@pytest.mark.parametrize("tasks", [3, 4, 6])
def test_settings_lead_to_the_recipe(tasks: int) -> None:
    data = {"db": {"kind": "sql", "data": "tiny://db.jsonl"}}
    given = {"base": "tiny://base", "experts": {"db": "tiny://db"}, "tasks": data}
    config = LLMConfig(**given, tiny_seed=7, tiny_tasks=tasks, tiny_conflict=3)
    assert config.sources["tiny"].spec == Recipe.of(7, 3, tasks)
    assert LLMConfig(**given).sources["tiny"].spec == Recipe()
