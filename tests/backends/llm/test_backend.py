from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from qdmerge.backend import Task
from qdmerge.errors import CheckpointError, ConfigError
from qdmerge.spaces import ExpertSpace
from qdmerge_llm.backend import LLMBackend, LLMTask
from qdmerge_llm.config import LLMConfig
from qdmerge_llm.items import split_items
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import KINDS, MBPPTask
from tests.backends.llm.conftest import COUNTS, TASKS, Micro


def test_scores_of_base_and_experts(backend: LLMBackend) -> None:
    seeds = np.stack(list(backend.space.seeds.values()))
    evaluation = backend.evaluate(seeds, "test").checked(4, 3, 0)
    base, *experts = evaluation.scores.mean(axis=1)
    assert base > 0.9  # it was trained on these very items
    assert max(experts) < 0.75  # noisy copies
    assert evaluation.scores[1:].max() > 0
    assert evaluation.items is not None
    for scores, record in zip(evaluation.scores, evaluation.items, strict=True):
        assert {name: len(items) for name, items in record.items()} == dict.fromkeys(TASKS, 4)
        assert np.allclose(scores, [items.mean() for items in record.values()])


def test_evaluation_does_not_depend_on_what_came_before(backend: LLMBackend) -> None:
    base, expert, *_ = backend.space.seeds.values()
    alone = backend.evaluate(expert[None], "validation").scores
    after = backend.evaluate(np.stack([base, expert]), "validation").scores
    assert np.array_equal(alone[0], after[1])


def test_tasks_name_their_metric_and_expert(micro: Micro, sandbox: Sandbox) -> None:
    settings = micro.config()
    settings["tasks"]["db"]["expert"] = "os"
    tasks = LLMConfig(**settings).build(ExpertSpace).tasks
    assert [(t.name, t.metric, t.expert) for t in tasks] == [
        ("coding", "pass@1", None),
        ("db", "success rate", "os"),
        ("os", "success rate", None),
    ]


def test_export_reloads_with_plain_transformers_and_reproduces_scores(
    backend: LLMBackend, micro: Micro, sandbox: Sandbox, tmp_path: Any
) -> None:
    experts = list(backend.space.seeds.values())[1:]
    x = (0.6 * sum(experts)).astype(backend.space.dtype)
    scores = backend.evaluate(x[None], "test").scores[0]
    assert 0 < scores.mean() < 1
    folder = backend.export(x, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for (name, kind), expected in zip(TASKS.items(), scores, strict=True):
        items = split_items(micro.items[name], COUNTS)["test"]
        answers = []
        for item in items:
            ids = tokenizer(item["prompt"], return_tensors="pt")
            ids.pop("token_type_ids", None)
            out = model.generate(**ids, max_new_tokens=24, do_sample=False)[0]
            text = tokenizer.decode(out[ids["input_ids"].shape[1] :], skip_special_tokens=True)
            answers.append(text.strip())
        task = KINDS.build(kind, {}, {"sandbox": sandbox})
        assert task.score(items, answers).mean() == expected


def test_splits_are_disjoint_by_content(backend: LLMBackend) -> None:
    for task in backend.llm_tasks:
        prompts = [{item["prompt"] for item in items} for items in task.items.values()]
        assert [len(found) for found in prompts] == list(COUNTS.values())
        assert len(set.union(*prompts)) == sum(map(len, prompts))


def test_one_prompt_in_two_splits_is_refused(micro: Micro) -> None:
    items = [dict(item, prompt="the same") for item in micro.items["os"]]
    with pytest.raises(ConfigError, match=r"have the same prompt: give them one group"):
        split_items(items, COUNTS)


def test_items_come_in_the_order_of_their_hashed_ids(micro: Micro) -> None:
    forward = split_items(micro.items["os"], COUNTS)
    assert split_items(micro.items["os"][::-1], COUNTS) == forward
    fewer = split_items(micro.items["os"], {"test": 2})["test"]
    assert fewer == forward["test"][:2]


def test_facts_are_plain_and_name_sandbox_and_items(backend: LLMBackend) -> None:
    facts = json.loads(json.dumps(backend.facts()))
    assert facts["sandbox"].startswith("bubblewrap")
    assert (facts["device"], facts["dtype"]) == ("cpu", "float32")
    assert facts["items"]["db"]["test"]["count"] == COUNTS["test"]
    hashes = {entry["sha256"] for task in facts["items"].values() for entry in task.values()}
    assert len(hashes) == 9


def test_another_space_and_number_type(micro: Micro, sandbox: Sandbox) -> None:
    backend = LLMConfig(**micro.config(dtype="bfloat16", batch_size=2)).build(ExpertSpace)
    assert backend.space.dim == 3
    assert backend.facts()["dtype"] == "bfloat16"
    assert backend.evaluate(np.zeros((1, 3), np.float32), "test").scores.min() > 0.5


def test_truncated_weights_are_named(micro: Micro, sandbox: Sandbox, tmp_path: Any) -> None:
    for file in (micro.folder / "base").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        LLMConfig(**micro.config(base=str(tmp_path))).build()


def test_what_follows_a_stop_string_of_the_settings_is_cut_off(backend: LLMBackend) -> None:
    backend.space.express(next(iter(backend.space.seeds.values())), backend.model)
    for task, mark in zip(backend.llm_tasks, ("return", "WHERE", "|"), strict=True):
        prompts = [item["prompt"] for item in task.items["test"]]
        whole = backend._completer(task)(prompts)
        cut = backend._completer(replace(task, stop=(*task.stop, mark)))(prompts)
        assert any(mark in text for text in whole)
        assert cut == [text.split(mark)[0] for text in whole]


def test_prompts_without_room_are_told_once_for_each_task(backend: LLMBackend) -> None:
    task = replace(backend.llm_tasks[2], max_new_tokens=128)
    with pytest.warns(UserWarning, match=r"task 'os': 4 prompts and 128 new tokens do not fit"):
        assert not any(s.any() for s in backend._score(task, "test").values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend._score(task, "test")


def test_facts_tell_how_conversations_begin(
    backend: LLMBackend, micro: Micro, sandbox: Sandbox
) -> None:
    item = {"id": "a", "prompt": "Add one.", "entry_point": "f"}

    def facts(template: str | None, system: str = "") -> dict[str, Any]:
        kind = MBPPTask(sandbox, system=system)
        task = LLMTask(Task("coding"), kind, {"test": [item]}, 8)
        made = LLMBackend(
            micro.folder / "base", backend.space, [task], device="cpu", chat_template=template
        )
        return made.facts()

    plain, other, told = facts(None), facts("{{ messages }}"), facts(None, "Be brief.")
    assert facts(None) == plain
    assert plain["chat_template"] != other["chat_template"]
    asked = [found["items"]["coding"]["test"] for found in (plain, other, told)]
    assert len({entry["sha256"] for entry in asked}) == 1
    assert len({entry["asked"] for entry in asked}) == 3  # what a run is not resumed with
