from __future__ import annotations

from dataclasses import fields, replace

import pytest

from qdmerge_llm.tiny import Recipe, Stage


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(seed=5), Recipe.micro()])
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
