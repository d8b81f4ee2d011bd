"""Language models' experts watched at work, and merged by what their layers receive."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.errors import ConfigError
from qdmerge.runs._building import changed_facts, domain_facts
from qdmerge.spaces import RegMeanSpace
from qdmerge_llm.config import LLMConfig
from qdmerge_llm.items import split_of
from qdmerge_llm.sandbox import Sandbox
from tests.backends.llm.conftest import MAKERS, TASKS, Micro


@pytest.fixture(scope="module")
def trained(micro: Micro, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Settings whose data have training items beside those of the splits."""
    folder = tmp_path_factory.mktemp("data")
    settings = micro.config()
    for name, kind in TASKS.items():
        groups = [f"{kind}-{k}" for k in range(10, 99)]
        more = [k for k, group in enumerate(groups, 10) if split_of(group) == "train"][:5]
        rows = [{"id": f"{kind}-{k}", "group": f"{kind}-{k}", **MAKERS[kind](k)} for k in more]
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in [*micro.items[name], *rows]))
        settings["tasks"][name]["data"] = str(path)
    return settings


def build(settings: Any, cache: Path, **options: Any) -> Any:
    return LLMConfig(**settings).build(partial(RegMeanSpace, rank=4, cache=cache, **options))


def watched(backend: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The prompts that every expert's task is asked while it is measured."""
    seen: dict[str, list[str]] = {}
    answered = type(backend).answered

    def record(self: Any, task: Any, items: Any) -> Any:
        seen.setdefault(task.task.name, []).extend(item["prompt"] for item in items)
        return answered(self, task, items)

    with monkeypatch.context() as patch:
        patch.setattr(type(backend), "answered", record)
        list(backend.space.tensors(backend.space.x0))
    return seen


def test_experts_are_watched_on_items_of_no_split(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = build(trained, tmp_path, examples=4)
    seen = watched(backend, monkeypatch)
    assert {name: len(prompts) for name, prompts in seen.items()} == dict.fromkeys(TASKS, 4)
    for task in backend.llm_tasks:
        scored = {item["prompt"] for items in task.items.values() for item in items}
        assert not scored & set(seen[task.task.name])


def test_without_training_items_they_are_watched_on_those_that_evolution_sees(
    micro: Micro, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = build(micro.config(), tmp_path)
    for name, prompts in watched(backend, monkeypatch).items():
        (task,) = (task for task in backend.llm_tasks if task.task.name == name)
        assert prompts == [item["prompt"] for item in task.items["validation"]]


def test_merged_tensors_are_those_of_the_inputs_that_layers_receive(
    micro: Micro, trained: Any, tmp_path: Path
) -> None:
    backend = build(trained, tmp_path, examples=3, ridge=0.1)
    merged = dict(backend.space.tensors(backend.space.regression_mean([1 / 3] * 3)))
    name = "model.layers.1.mlp.down_proj.weight"
    tokenizer = AutoTokenizer.from_pretrained(micro.folder / "base")
    inner, outer = 0, 0
    for expert in TASKS:
        model = AutoModelForCausalLM.from_pretrained(micro.folder / expert)
        rows: list[torch.Tensor] = []
        for item in LLMConfig(**trained).tasks[expert].calibration(3):
            ids = tokenizer(item["prompt"], return_tensors="pt").input_ids
            whole = model.generate(ids, max_new_tokens=24, do_sample=False)
            text = tokenizer.decode(whole[0, ids.shape[1] :], skip_special_tokens=True)
            written = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
            hook = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(
                lambda _, inputs, rows=rows: rows.append(inputs[0].flatten(end_dim=-2).double())
            )
            model(torch.cat([ids, written.long()], dim=1))
            hook.remove()
        x = torch.cat(rows)
        gram = x.T @ x / (x**2).mean(dim=0).mean() / len(x) + 0.1 * torch.eye(x.shape[1])
        inner = inner + gram / 3
        outer = outer + model.state_dict()[name].double() @ gram / 3
    torch.testing.assert_close(
        merged[name].double(), outer @ torch.linalg.inv(inner), rtol=1e-3, atol=1e-4
    )


def test_padding_is_not_measured(trained: Any, tmp_path: Path) -> None:
    tasks = {
        name: {**task, "data": longer(Path(task["data"]), tmp_path / f"{name}.jsonl")}
        for name, task in trained["tasks"].items()
    }
    found = []
    for size in (1, 16):
        settings = {**trained, "tasks": tasks, "batch_size": size}
        backend = build(settings, tmp_path / str(size), examples=4)
        found.append(dict(backend.space.tensors(backend.space.regression_mean([1 / 3] * 3))))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=1e-3, atol=1e-4)


def longer(data: Path, to: Path) -> str:
    """Items of which every other one has a longer prompt."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for row in rows[::2]:
        row["prompt"] = f"{row['prompt'].strip()} {row['prompt']}"
    to.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(to)


def test_what_is_watched_decides_what_is_measured_anew(
    trained: Any, micro: Micro, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(settings: Any, examples: int = 2) -> bool:
        return bool(watched(build(settings, tmp_path, examples=examples), monkeypatch))

    assert measured(trained)
    assert not measured(trained)
    assert measured(trained, 3)
    assert measured(micro.config())
    assert measured({**trained, "dtype": "bfloat16"})
    tasks = {**trained["tasks"], "os": {**trained["tasks"]["os"], "max_new_tokens": 23}}
    assert measured({**trained, "tasks": tasks})


def test_other_examples_are_another_domain(trained: Any, tmp_path: Path) -> None:
    data = Path(trained["tasks"]["os"]["data"])
    before = domain_facts(build(trained, tmp_path, examples=3))
    text = data.read_text()
    data.write_text("".join(text.splitlines(keepends=True)[:-4]))
    try:
        after = domain_facts(build(trained, tmp_path, examples=3))
    finally:
        data.write_text(text)
    assert before["items"] == after["items"]
    assert before["calibration"] != after["calibration"]


def test_another_configuration_beside_the_weights_is_another_domain(
    trained: Any, tmp_path: Path
) -> None:
    file = Path(trained["base"]) / "config.json"
    before = domain_facts(build(trained, tmp_path))
    assert changed_facts(before, domain_facts(build(trained, tmp_path))) == []
    text = file.read_text()
    file.write_text(text + "\n")
    try:
        after = domain_facts(build(trained, tmp_path))
    finally:
        file.write_text(text)
    assert changed_facts(before, after) == ["base_files", "calibration"]


def test_an_expert_without_a_task_is_told_before_anything_runs(
    trained: Any, tmp_path: Path
) -> None:
    settings = {**trained, "tasks": {k: v for k, v in trained["tasks"].items() if k != "os"}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"backend": {"name": "llm", **settings}, "space": "regmean"}))
    result = CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "no task is that of expert 'os'; leave it out" in result.output
    with pytest.raises(ConfigError, match="expert 'os'"):
        build(settings, tmp_path).space.ready()


@pytest.mark.slow  # its workers start; other domains' tests go the same way
def test_a_run_of_the_recommended_recipe(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "study.yaml"
    small = {"evaluations": 14, "final": {"leading": 1, "bootstrap": 100}}
    path.write_text(yaml.safe_dump({"backend": {"name": "llm", **trained}, **small}))
    run = tmp_path / "run"
    command = ["run", str(path), "--recipe", "recommended", "--out", str(run)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    results = json.loads((run / "results.json").read_text())
    assert results["failed"] == 0
    assert len(list((tmp_path / "cache" / "grams").glob("*/grams.safetensors"))) == 1
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    assert all(np.isfinite(w.detach().numpy()).all() for w in model.parameters())
