from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from qdmerge.errors import ConfigError
from qdmerge.options import explain
from qdmerge.settings import presets_for
from qdmerge_llm.config import LLMConfig
from qdmerge_llm.sandbox import available
from qdmerge_llm.tasks import KINDS
from tests.backends.llm.conftest import Micro, shell_item


@pytest.fixture(autouse=True)
def any_sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are checked the same on machines without a sandbox, except where it is the point."""
    if available() and "absent" not in request.node.name:
        monkeypatch.setattr("qdmerge_llm.sandbox.available", lambda: None)


def problems(settings: dict[str, Any]) -> list[str]:
    return LLMConfig(**settings).problems()


def only(settings: dict[str, Any]) -> str:
    (line,) = problems(settings)
    return line


def copy_of(model: Path, target: Path) -> Path:
    shutil.copytree(model, target)
    return target


def test_good_settings_have_no_problems(micro: Micro) -> None:
    assert problems(micro.config()) == []


def test_importing_the_settings_loads_no_torch() -> None:
    code = (
        "import sys, qdmerge_llm, qdmerge_llm.config, qdmerge_llm.tasks\n"
        "config = qdmerge_llm.config.LLMConfig\n"
        "config(base='tiny://base', experts={'db': 'tiny://db'}, allow_unsandboxed=True,"
        " tasks={'db': {'kind': 'sql', 'data': 'tiny://db.jsonl'}}).problems()\n"
        "print(sorted({'torch', 'transformers', 'scipy', 'pandas', 'ribs'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


def test_settings_travel_to_workers(micro: Micro) -> None:
    config = LLMConfig(**micro.config())
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize("resource", presets_for("llm").values())
def test_preset_is_complete_and_right(resource: str) -> None:
    package, _, path = resource.partition("/")
    preset = yaml.safe_load((files(package) / path).read_text())
    settings = preset["backend"]
    assert settings.pop("name") == LLMConfig.name
    config = LLMConfig(**settings)
    assert config.problems() == []
    assert tuple(config.tasks) == tuple(config.experts) == config.sources["tiny"].spec.names
    # Every setting that people may want to change is in the file.
    elsewhere = {
        "side_tasks",
        "training",
        "chat_template",
        "guide",
        "config_differences",
        "vocabulary",
    }  # of real models
    assert set(settings) == set(LLMConfig.model_fields) - elsewhere
    assert preset["evaluations"] >= 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bacth_size": 3}, "unknown key 'bacth_size'; did you mean 'batch_size'?"),
        ({"tasks": {"db": {"kind": "sql", "dat": "x"}}}, "unknown key 'tasks.db.dat'"),
        ({"tasks": {"db": {"kind": "sql"}}}, "'tasks.db.data' is missing"),
        ({"batch_size": 0}, "'batch_size'"),
        ({"dtype": "float8"}, "'dtype'"),
        ({"device": "gpu"}, "'device'"),
        ({"experts": {}}, "'experts'"),
        ({"tasks": {}}, "'tasks'"),
        ({"tasks": {"db": {"kind": "sql", "data": "x", "test": 0}}}, "'tasks.db.test'"),
    ],
)
def test_settings_of_a_wrong_form(change: dict[str, Any], message: str, micro: Micro) -> None:
    with pytest.raises(ValidationError) as caught:
        LLMConfig(**micro.config(**change))
    assert message in "\n".join(explain(caught.value, LLMConfig))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{micro}/bse", "base: no directory '{micro}/bse'; did you mean 'base'?"),
        ("{micro}", "base: '{micro}' holds no config.json: not a model in the format of tra"),
        (
            "tiny://bass",
            "base: no 'tiny://bass'; did you mean 'base'? Known: base, coding, db, os, all.",
        ),
    ],
)
def test_missing_models(source: str, message: str, micro: Micro) -> None:
    line = only(micro.config(base=source.format(micro=micro.folder)))
    assert line.startswith(message.format(micro=micro.folder))


def test_hub_ids_and_tiny_parts_are_not_fetched(micro: Micro) -> None:
    assert problems(micro.config(base="owner/model")) == []
    experts = {name: f"tiny://{name}" for name in ("coding", "db", "os")}
    tasks = {"db": {"kind": "sql", "data": "tiny://db.jsonl", "test": 10**6}}
    assert problems(micro.config(base="tiny://base", experts=experts, tasks=tasks)) == []


def test_unknown_tiny_data_has_a_near_name(micro: Micro) -> None:
    settings = micro.config()
    settings["tasks"]["db"]["data"] = "tiny://dbs.jsonl"
    assert "did you mean 'db.jsonl'?" in only(settings)


def test_expert_without_weights(micro: Micro, tmp_path: Path) -> None:
    expert = copy_of(micro.folder / "db", tmp_path / "db")
    (expert / "model.safetensors").unlink()
    line = only(micro.config(experts={"db": str(expert)}))
    assert line.startswith("expert 'db'")
    assert "safetensors" in line


def test_truncated_weights(micro: Micro, tmp_path: Path) -> None:
    expert = copy_of(micro.folder / "db", tmp_path / "db")
    weights = expert / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    line = only(micro.config(experts={"db": str(expert)}))
    assert str(weights) in line


def test_expert_of_another_shape_names_the_tensor(micro: Micro, tmp_path: Path) -> None:
    expert = copy_of(micro.folder / "db", tmp_path / "db")
    weights = load_file(expert / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(33)
    save_file(weights, expert / "model.safetensors")
    line = only(micro.config(experts={"db": str(expert), "os": str(micro.folder / "os")}))
    assert "expert 'db'" in line
    assert "model.norm.weight (32,) -> (33,)" in line


def test_expert_of_another_architecture(micro: Micro, tmp_path: Path) -> None:
    expert = copy_of(micro.folder / "db", tmp_path / "db")
    config = json.loads((expert / "config.json").read_text())
    (expert / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    assert "is a 'gpt2' model, the base is a 'llama' model" in only(
        micro.config(experts={"db": str(expert)})
    )


def test_expert_named_base(micro: Micro) -> None:
    assert "cannot be named 'base'" in only(
        micro.config(experts={"base": str(micro.folder / "db")})
    )


def test_unknown_kind_has_a_near_name(micro: Micro) -> None:
    settings = micro.config()
    settings["tasks"]["coding"]["kind"] = "pyton"
    assert only(settings).startswith(
        "task 'coding': unknown task kind 'pyton'; did you mean 'python'?"
    )


def test_unknown_option_of_a_kind(micro: Micro) -> None:
    settings = micro.config()
    settings["tasks"]["coding"]["options"] = {"second": 3}
    line = only(settings)
    assert "unknown key 'second'; did you mean 'seconds'?" in line
    assert "sandbox" not in line


def test_kind_of_ones_own(micro: Micro) -> None:
    settings = micro.config()
    settings["tasks"]["os"]["kind"] = "qdmerge_llm.tasks:ShellTask"
    assert problems(settings) == []
    settings["tasks"]["os"]["kind"] = "collections:OrderedDict"
    assert "'collections:OrderedDict' is no task kind" in only(settings)


def test_unknown_expert_of_a_task(micro: Micro) -> None:
    settings = micro.config()
    settings["tasks"]["coding"]["expert"] = "codin"
    assert only(settings).startswith("task 'coding': unknown expert 'codin'; did you mean 'coding'")


def test_missing_data(micro: Micro) -> None:
    settings = micro.config()
    settings["tasks"]["db"]["data"] = str(micro.folder / "bd.jsonl")
    assert "did you mean 'db.jsonl'?" in only(settings)


def test_too_few_items_says_how_many_there_are(micro: Micro) -> None:
    settings = micro.config()
    settings["tasks"]["db"].update(selection=30, test=40)
    line = only(settings)
    assert "db.jsonl: too few items: selection 3 of 30, test 4 of 40" in line
    with pytest.raises(ConfigError, match="too few items"):
        LLMConfig(**settings).tasks["db"].items()


BAD_LINES: dict[str, tuple[Any, str]] = {
    "not JSON": ('{"id": ', "not JSON"),
    "no object": ("[1]", "expected an object"),
    "no id": ({"id": 3}, "'id' must be text"),
    "no prompt": ({"prompt": None}, "'prompt' must be text"),
    "group": ({"group": 3}, "'group' must be text"),
    "same id": ({"id": "first"}, "id 'first' is that of line 1 already"),
    "files": ({"files": {"a": 1}}, "'files' must map names to text"),
    "outside": ({"files": {"../a": ""}}, "file '../a' must lie inside the working directory"),
    "expected": ({"expected": 3}, "'expected' must be text"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_first_bad_line_of_data_is_named(case: str, micro: Micro, tmp_path: Path) -> None:
    bad, message = BAD_LINES[case]
    line = bad if isinstance(bad, str) else json.dumps({"id": "x", **shell_item(1), **bad})
    data = tmp_path / "os.jsonl"
    data.write_text("\n".join([json.dumps({"id": "first", **shell_item(1)}), "", line, "{{", ""]))
    settings = micro.config()
    settings["tasks"]["os"]["data"] = str(data)
    assert only(settings).startswith(f"task 'os': {data}, line 3: {message}")


@pytest.mark.parametrize(
    ("kind", "item", "message"),
    [
        ("python", {"tests": [{"args": [], "expected": 1}]}, "'entry' must be"),
        ("python", {"entry": "f", "tests": []}, "'tests' must be"),
        ("python", {"entry": "f", "tests": [{"args": []}]}, "needs 'args' and 'expected'"),
        ("python", {"entry": "f", "tests": [{"args": 1, "expected": 1}]}, "must be a list"),
        ("sql", {"setup": ""}, "'reference' must be SQL text"),
        ("sql", {"setup": "", "reference": "", "ordered": 1}, "'ordered' must be true or false"),
        ("shell", {"expected": ""}, "'files' must map"),
    ],
)
def test_fields_of_items(kind: str, item: dict[str, Any], message: str) -> None:
    problem: Callable[[Any], str | None] = (
        LLMConfig(base="b/b", experts={"a": "b/a"}, tasks={"t": {"kind": kind, "data": "x"}})
        .tasks["t"]
        .kind_class()
        .problem
    )
    assert message in str(problem(item))
    assert KINDS.entry(kind)


@pytest.mark.parametrize("reference", ["SELECT b FROM t", "DELETE FROM t", "SELECT 1; SELECT 2"])
def test_reference_that_does_not_run(reference: str, micro: Micro, tmp_path: Path) -> None:
    data = tmp_path / "db.jsonl"
    items = [{**item, "reference": reference} for item in micro.items["db"]]
    data.write_text("".join(json.dumps(item) + "\n" for item in items))
    settings = micro.config()
    settings["tasks"]["db"]["data"] = str(data)
    assert "the reference query does not run" in problems(settings)[0]


def test_absent_sandbox_is_a_problem_unless_allowed(
    micro: Micro, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDMERGE_BWRAP", "/nonexistent")
    line = only(micro.config())
    assert "no bwrap was found" in line
    assert "--allow-unsandboxed" in line
    assert problems(micro.config(allow_unsandboxed=True)) == []


def test_all_problems_at_once(micro: Micro) -> None:
    settings = micro.config(base="nowhere")
    settings["tasks"]["coding"]["kind"] = "pyton"
    settings["tasks"]["db"]["expert"] = "x"
    settings["tasks"]["os"].update(data="gone.jsonl", expert="y")
    starts = [line.split(":")[0] for line in problems(settings)]
    assert starts == ["base", "task 'coding'", "task 'db'", "task 'os'", "task 'os'"]
