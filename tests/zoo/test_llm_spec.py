"""The specification of language models' zoos."""

from __future__ import annotations

from typing import TypeVar

import pytest
from pydantic import BaseModel

from qdmerge_llm.config import LLMConfig
from qdmerge_zoo.llm import CONFLICTS, TASKS, Stage, ZooSpec

T = TypeVar("T", bound=BaseModel)


def changed(settings: T, **changes: object) -> T:
    return settings.model_copy(update=changes)


@pytest.mark.parametrize(
    "spec", [ZooSpec(), ZooSpec(seed=5), ZooSpec.micro(), ZooSpec.of(0, 2, tasks=6)]
)
def test_a_spec_survives_its_text(spec: ZooSpec) -> None:
    assert ZooSpec.model_validate_json(spec.dump()) == spec


def test_every_setting_changes_the_key() -> None:
    spec = ZooSpec()
    numbers = [name for name in ZooSpec.model_fields if name not in ("base", "expert")]
    others = [changed(spec, **{name: getattr(spec, name) + 1}) for name in numbers]
    for name in Stage.model_fields:
        old = getattr(spec.expert, name)
        stage = changed(spec.expert, **{name: "muon" if old == "adamw" else old + 1})
        others += [changed(spec, expert=stage), changed(spec, base=stage)]
    assert len({spec.key, *(other.key for other in others)}) == 1 + len(others)


def test_the_easy_zoo_keeps_the_key_it_had_before_there_were_others() -> None:
    assert ZooSpec().key == ZooSpec.of(0, 0).key == "v1-0dd7bc10713d"
    assert ZooSpec.micro().key == "v1-d65199a8108f"
    assert ZooSpec.model_validate_json(ZooSpec().dump()) == ZooSpec()


def test_every_level_and_number_of_tasks_is_a_zoo_of_its_own() -> None:
    zoos = [ZooSpec.of(0, level, tasks) for level in CONFLICTS for tasks in (3, 4, 6)]
    assert len({zoo.key for zoo in zoos}) == len(zoos)
    assert [zoo.names for zoo in zoos[:3]] == [TASKS[:3], TASKS[:4], TASKS]
    replays = [replay for replay, _ in CONFLICTS.values()]
    assert replays == sorted(replays, reverse=True)


def test_experts_are_trained_as_unequally_as_the_spread_says() -> None:
    spec = changed(ZooSpec(spread=2.0), expert=changed(ZooSpec().expert, steps=100))
    assert [spec.stage(name).steps for name in spec.names] == [200, 100, 50]
    assert spec.stage("all").steps == 350
    assert spec.stage("base") == spec.base
    assert {ZooSpec(tasks=6).stage(name).steps for name in TASKS} == {ZooSpec().expert.steps}


def test_more_tasks_are_trained_longer() -> None:
    three, four, six = (ZooSpec.of(0, 1, tasks) for tasks in (3, 4, 6))
    assert three.base == ZooSpec().base
    assert three.expert.steps == ZooSpec().expert.steps
    assert [zoo.base.steps for zoo in (three, four, six)] == [140, 187, 280]
    assert [zoo.expert.steps for zoo in (three, four, six)] == [180, 210, 270]


@pytest.mark.parametrize("tasks", [3, 4, 6])
def test_settings_lead_to_the_spec(tasks: int) -> None:
    data = {"db": {"kind": "sql", "data": "tiny://db.jsonl"}}
    given = {"base": "tiny://base", "experts": {"db": "tiny://db"}, "tasks": data}
    config = LLMConfig(**given, tiny_seed=7, tiny_tasks=tasks, tiny_conflict=3)
    assert config.sources["tiny"].spec == ZooSpec.of(7, 3, tasks)
    assert LLMConfig(**given).sources["tiny"].spec == ZooSpec()
