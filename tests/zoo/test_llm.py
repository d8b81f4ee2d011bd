"""Zoos of language models, and their base fine-tuned on all tasks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from qdmerge.errors import RunError
from qdmerge.spaces import ExpertSpace
from qdmerge.storage import MANIFEST, intact
from qdmerge_llm.config import LLMConfig
from qdmerge_zoo.llm import ZooSpec, _build, items, multitask_cost, zoo
from qdmerge_zoo.llm import multitask as multitask_model
from qdmerge_zoo.schemes import TinyLLM
from tests.trained import jobs_in_this_process, never, same

MICRO = ZooSpec.micro()
TASKS = MICRO.names
MODELS = ("base", *TASKS)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, int, int]]]:
    calls: list[tuple[str, int, int]] = []
    cache = tmp_path_factory.mktemp("cache")
    with jobs_in_this_process(_build):
        return zoo(MICRO, cache, progress=lambda *call: calls.append(call)), calls


@pytest.fixture
def copied(built: tuple[Path, object], tmp_path: Path) -> Path:
    folder = tmp_path / built[0].name
    shutil.copytree(built[0], folder)
    return folder


def test_importing_is_cheap() -> None:
    code = "import sys, qdmerge_zoo.llm; print({'torch', 'transformers'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "set()"


def test_every_stage_reports_until_it_is_done(
    built: tuple[Path, list[tuple[str, int, int]]],
) -> None:
    calls = built[1]
    for stage, total in {"data": 1, "base": 2, **dict.fromkeys(TASKS, 2)}.items():
        done = [call[1] for call in calls if call[0] == stage]
        assert {call[2] for call in calls if call[0] == stage} == {total}
        assert done[-1] == total
        assert done == sorted(done)


def test_the_recipe_is_written_beside_the_models(built: tuple[Path, object]) -> None:
    facts = json.loads((built[0] / "recipe.json").read_text())
    assert ZooSpec(**facts["settings"]) == MICRO
    assert set(facts["final_loss"]) == set(MODELS)
    assert all(loss > 0 for loss in facts["final_loss"].values())
    assert {"torch", "transformers", "tokenizers", "numpy"} < set(facts["versions"])
    assert facts["seconds"] > 0


@pytest.mark.parametrize("name", MODELS)
def test_models_load_with_plain_transformers_and_generate(
    built: tuple[Path, object], name: str
) -> None:
    model = AutoModelForCausalLM.from_pretrained(built[0] / name)
    tokenizer = AutoTokenizer.from_pretrained(built[0] / name)
    assert model.dtype == torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    batch = tokenizer(["Shell, log.txt: text.\n", "#"], padding=True, return_tensors="pt")
    assert batch["input_ids"][1, 0] == tokenizer.pad_token_id
    assert batch["input_ids"][0, 0] == tokenizer.bos_token_id
    answers = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=3,
        do_sample=False,
    )
    assert answers.shape[0] == 2
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_experts_are_the_base_moved_each_in_its_own_direction(built: tuple[Path, object]) -> None:
    weights = {
        name: AutoModelForCausalLM.from_pretrained(built[0] / name).state_dict() for name in MODELS
    }
    key = "model.layers.0.mlp.up_proj.weight"
    for first in MODELS:
        for second in MODELS:
            assert (first == second) == torch.equal(weights[first][key], weights[second][key])
            assert weights[first].keys() == weights[second].keys()


def test_the_tokenizer_gives_back_every_text(built: tuple[Path, object]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(built[0] / "base")
    assert len(tokenizer) <= MICRO.vocabulary
    for task in TASKS:
        for item in items(task, 20):
            ids = tokenizer(item.answer, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == item.answer
    digits = tokenizer("2024", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(digits) == ["2", "0", "2", "4"]


def test_the_data_are_the_items(built: tuple[Path, object]) -> None:
    for task in TASKS:
        lines = (built[0] / "data" / f"{task}.jsonl").read_text().splitlines()
        drawn = items(task, MICRO.items, MICRO.seed)
        assert [json.loads(line) for line in lines] == [item.record() for item in drawn]


def test_a_built_zoo_is_used_again(built: tuple[Path, object]) -> None:
    assert zoo(MICRO, built[0].parent, progress=never) == built[0]


def truncate(entry: Path) -> None:
    weights = entry / "db" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def flip(entry: Path) -> None:
    weights = entry / "os" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "truncated weights": truncate,
    "changed weights": flip,
    "missing weights": lambda entry: (entry / "base" / "model.safetensors").unlink(),
    "missing data": lambda entry: shutil.rmtree(entry / "data"),
    "missing manifest": lambda entry: (entry / MANIFEST).unlink(),
    "bad manifest": lambda entry: (entry / MANIFEST).write_text("{"),
    "another recipe": lambda entry: (entry / "recipe.json").write_text("{}"),
    "a file instead": lambda entry: (shutil.rmtree(entry), entry.write_text("")),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_every_damage_is_noticed(copied: Path, breakage: str) -> None:
    assert intact(copied)
    BREAKAGES[breakage](copied)
    assert not intact(copied)


def assert_same_entry(one: Path, other: Path) -> None:
    """Two entries of a cache hold the same files; weights may differ by rounding."""
    before, after = (json.loads((e / MANIFEST).read_text()) for e in (one, other))
    assert before.keys() == after.keys()
    weights = {name for name in before if name.endswith("model.safetensors")}
    assert weights
    for name in before.keys() - weights - {"recipe.json"}:  # which holds the seconds
        assert before[name] == after[name], name
    assert all(same(one / name, other / name) for name in weights)


def test_a_broken_zoo_is_rebuilt_to_the_same_zoo(built: tuple[Path, object], copied: Path) -> None:
    truncate(copied)
    with jobs_in_this_process(_build):
        assert zoo(MICRO, copied.parent) == copied
    assert_same_entry(built[0], copied)


def test_a_failed_training_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    odd = MICRO.model_copy(update={"hidden": 33})
    with pytest.raises(RunError, match=r"(?s)Training base .*33"):
        zoo(odd, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] in ([".lock"], [])


@pytest.fixture(scope="session")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo of six tasks whose experts are trained unequally."""
    spec = ZooSpec.micro(tasks=6).model_copy(update={"spread": 2.0})
    with jobs_in_this_process(_build):
        return zoo(spec, tmp_path_factory.mktemp("six"))


def test_a_zoo_of_six_tasks_has_six_experts(six: Path) -> None:
    names = {"coding", "db", "os", "regex", "joins", "sed"}
    assert {path.parent.name for path in six.glob("*/model.safetensors")} == names | {"base"}
    assert {path.stem for path in (six / "data").iterdir()} == names
    facts = json.loads((six / "recipe.json").read_text())
    assert set(facts["final_loss"]) == names | {"base"}
    assert (facts["settings"]["tasks"], facts["settings"]["spread"]) == (6, 2.0)


@pytest.fixture(scope="session")
def multitask(built: tuple[Path, object]) -> Path:
    assert multitask_cost(MICRO, built[0].parent) is None
    return multitask_model(MICRO, cache=built[0].parent, progress=lambda *call: None)


def test_the_multitask_model_stands_beside_the_zoo(
    built: tuple[Path, object], multitask: Path
) -> None:
    assert multitask.parent == built[0].with_name(f"{built[0].name}-all")
    assert intact(built[0])
    weights = [
        AutoModelForCausalLM.from_pretrained(folder).state_dict()["model.norm.weight"]
        for folder in (multitask, *(built[0] / name for name in MODELS))
    ]
    assert not any(torch.equal(weights[0], other) for other in weights[1:])
    texts = [AutoTokenizer.from_pretrained(f)("# f(x) 12") for f in (multitask, built[0] / "base")]
    assert texts[0]["input_ids"] == texts[1]["input_ids"]
    again = multitask_model(MICRO, cache=built[0].parent, progress=never)
    assert again == multitask


def test_the_multitask_model_costs_as_many_steps_as_all_experts(
    built: tuple[Path, object], multitask: Path
) -> None:
    cost = multitask_cost(MICRO, multitask.parent.parent)
    assert cost is not None
    assert (cost["steps"], cost["examples"]) == (6, 6 * MICRO.batch)
    assert cost["seconds"] > 0


def test_the_multitask_model_follows_from_the_recipe(multitask: Path, copied: Path) -> None:
    with jobs_in_this_process(_build):
        again = multitask_model(MICRO, cache=copied.parent)
    assert_same_entry(multitask.parent, again.parent)


MULTITASK_ITEMS = {"validation": 2, "selection": 2, "test": 2, "max_new_tokens": 4}


def test_the_settings_prepare_evaluate_and_price_the_multitask_model(
    built: tuple[Path, object], multitask: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", str(built[0].parent))
    monkeypatch.setattr(TinyLLM, "spec", MICRO)
    kinds = {"coding": "python", "db": "sql", "os": "shell"}
    tasks = {
        name: {"kind": kind, "data": f"tiny://{name}.jsonl", "expert": name, **MULTITASK_ITEMS}
        for name, kind in kinds.items()
    }
    experts = {name: f"tiny://{name}" for name in kinds}
    config = LLMConfig(
        base="tiny://base", experts=experts, tasks=tasks, device="cpu", allow_unsandboxed=True
    )
    assert config.training_cost() is None
    other = config.multitask()
    assert other is not None
    assert other.problems() == []
    other.prepare(never)
    assert other.training_cost() == multitask_cost(MICRO, built[0].parent)
    backend = other.build(ExpertSpace)
    assert list(backend.space.experts) == ["all"]
    assert [task.name for task in backend.tasks] == list(kinds)
    assert backend.evaluate(np.ones((1, 1)), "validation").scores.shape == (1, 3)


def test_only_tiny_models_and_data_have_a_multitask_model(tmp_path: Path) -> None:
    task = {"kind": "sql", "data": "tiny://db.jsonl"}
    tiny = {"base": "tiny://base", "experts": {"db": "tiny://db"}, "tasks": {"db": task}}
    assert LLMConfig(**tiny).multitask() is not None
    others = [
        {"base": "owner/model"},
        {"experts": {"db": "tiny://db", "os": str(tmp_path)}},
        {"tasks": {"db": {**task, "data": str(tmp_path / "db.jsonl")}}},
    ]
    assert [LLMConfig(**tiny | change).multitask() for change in others] == [None] * 3


def test_parts_that_the_zoo_has_not_are_told() -> None:
    task = {"kind": "shell", "data": "tiny://sed.jsonl"}
    config = LLMConfig(
        base="tiny://base",
        experts={"sed": "tiny://sed"},
        tasks={"sed": task},
        allow_unsandboxed=True,
    )
    lacking = "no 'tiny://sed{}' in a zoo of 3 tasks; set sources.tiny.tasks to 6"
    assert config.problems() == [
        f"expert 'sed': {lacking.format('')}",
        f"task 'sed': {lacking.format('.jsonl')}",
    ]
    larger = LLMConfig(**{**config.model_dump(), "sources": {"tiny": {"tasks": 6}}})
    assert larger.problems() == []
