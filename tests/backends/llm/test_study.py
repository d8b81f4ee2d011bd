"""From a base and two LoRA adapters to a merged model, by the command line, on real tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from qdmerge.cli import app
from qdmerge.errors import ConfigError
from qdmerge_llm.config import LLMConfig
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import AgentBenchDBTask, MBPPTask
from qdmerge_llm.training import LoRAConfig, train_lora
from tests.backends.llm.conftest import make_tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NUMBERS = range(3, 9)


def db_row(n: int) -> dict[str, Any]:
    columns = [{"name": "k", "type": "TEXT"}, {"name": "v", "type": "TEXT"}]
    info = {"columns": columns, "rows": [[str(k), str(k * k)] for k in range(10)]}
    return {
        "id": f"db-{n}",
        "description": f"What is the v of k {n}?",
        "add_description": "",
        "label": [str(n * n)],
        "type": ["other"],
        "table": {"table_name": "t", "table_info": info},
    }


def coding_row(n: int) -> dict[str, Any]:
    return {
        "task_id": n,
        "prompt": f"Add {n}.",
        "entry_point": "f",
        "canonical_solution": f"def f(x):\n    return x + {n}",
        "base_input": [[1], [5]],
        "assertion": f"assert f(1) == {1 + n}",
        "test_list": [f"assert f(1) == {1 + n}"],
        "atol": 0,
    }


def write_lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> tuple[Path, dict]:
    """A random base, two adapters that know the answers by heart, and a configuration."""
    folder = tmp_path_factory.mktemp("study")
    kinds: dict[str, tuple[Any, list[dict[str, Any]]]] = {
        "coding": (MBPPTask(sandbox), [coding_row(n) for n in NUMBERS]),
        "db": (AgentBenchDBTask(sandbox, system=""), [db_row(n) for n in NUMBERS]),
    }
    talks = {}
    for name, (task, rows) in kinds.items():
        talks[name] = []
        for number, row in enumerate(rows):
            item = task.read(row, number)
            episode = task.start(item)
            said = {"role": "assistant", "content": task.gold(item)[0]}
            talks[name].append({"messages": [*episode.messages, said]})
            task.close(episode)
    texts = [m["content"] for rows in talks.values() for row in rows for m in row["messages"]]
    tokenizer = make_tokenizer(texts)
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    lora = LoRAConfig(
        rank=8, alpha=32, learning_rate=1e-2, batch_size=6, epochs=90, dtype="float32"
    )
    counts = {"validation": 2, "selection": 2, "test": 2}
    tasks = {}
    for name, (_, rows) in kinds.items():
        data = Path(write_lines(folder / f"{name}-train.jsonl", talks[name]))
        train_lora(folder / "base", data, folder / name, lora, lambda *_: None)
        parts = zip(counts, (rows[:2], rows[2:4], rows[4:]), strict=True)
        files = {s: write_lines(folder / f"{name}-{s}.jsonl", part) for s, part in parts}
        kind = "mbpp" if name == "coding" else "agentbench_db"
        tasks[name] = {"kind": kind, "data": files, "max_new_tokens": 40, **counts}
    tasks["db"]["options"] = {"system": "", "rounds": 2}
    settings = {
        "seed": 0,
        "evaluations": 2,
        "backend": {
            "name": "llm",
            "base": str(folder / "base"),
            "experts": {name: str(folder / name) for name in kinds},
            "tasks": tasks,
            "side_tasks": {
                "again": {"kind": "mbpp", "data": tasks["coding"]["data"]["test"]},
            },
            "device": "cpu",
        },
        "space": {"name": "core", "rank": 8},
        "archive": {"name": "grid", "bins": 3},
        "emitters": [{"name": "merge", "mutation": {"name": "svd_child", "scale": 0.1}}],
        "final": {
            "leading": 1,
            "bootstrap": 100,
            "aggregate_scales": [1.0],
            "task_arithmetic_scales": [0.5],
        },
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    return folder, settings


def test_a_study_of_adapters_from_the_command_line(study: tuple[Path, dict]) -> None:
    folder, _ = study
    run = folder / "run"
    done = CliRunner().invoke(app, ["run", str(folder / "study.yaml"), "--out", str(run)])
    assert done.exit_code == 0, done.output
    results = json.loads((run / "results.json").read_text())
    rows = {row["name"]: row for row in results["candidates"]}
    # An expert has most of its own answers by heart, and the base none.
    assert rows["base"]["test"] == {"coding": 0.0, "db": 0.0}
    assert rows["expert:coding"]["test"]["coding"] >= 0.5
    assert rows["expert:db"]["test"]["db"] >= 0.5
    assert results["facts"]["prompts"] == {"coding": "", "db": "", "again": ""}
    reported = {row["name"]: row["scores"] for row in results["reported"]["rows"]}
    assert reported["expert:coding"] == {"again": rows["expert:coding"]["test"]["coding"]}
    assert results["reported"]["rows"][0]["relative"] == {"again": None}  # the base has 0
    page = (run / "figures" / "transcripts-db.md").read_text()
    assert "### expert:db: 1 right answer" in page
    assert "expert:coding" not in page
    # The chosen model loads with plain transformers.
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    assert model.num_parameters() == results["facts"]["parameters"]


def test_training_on_what_is_scored_is_refused(study: tuple[Path, dict], tmp_path: Path) -> None:
    folder, settings = study
    backend = {key: value for key, value in settings["backend"].items() if key != "name"}
    backend["experts"] = {"db": str(tmp_path / "db")}
    backend["training"] = {"db": {"data": str(folder / "db-train.jsonl")}}
    with pytest.raises(ConfigError, match=r"'db' ask what models are scored on: 6 items"):
        LLMConfig(**backend).make_experts(lambda *_: None)
    assert not (tmp_path / "db").exists()


def test_missing_experts_and_what_makes_them_are_told(
    study: tuple[Path, dict], tmp_path: Path
) -> None:
    folder, settings = study
    backend = {key: value for key, value in settings["backend"].items() if key != "name"}
    backend["experts"] = {"db": "experts/db", "os": str(folder / "coding")}
    backend["training"] = {"db": {"data": str(tmp_path / "none.jsonl")}, "sql": {"data": "x"}}
    told = LLMConfig(**backend).problems()
    assert told[0].startswith("expert 'db': no directory 'experts/db'")
    assert any("training: 'sql' is no expert" in line for line in told)
    assert "`qdmerge experts` makes the experts that are missing" in told
    with pytest.raises(ConfigError) as caught:
        LLMConfig(**backend).make_experts(lambda *_: None)
    assert "training: 'sql' is no expert" in str(caught.value)
    assert f"no file '{tmp_path / 'none.jsonl'}'" in str(caught.value)


def test_an_adapter_is_no_base(study: tuple[Path, dict]) -> None:
    folder, settings = study
    backend = {key: value for key, value in settings["backend"].items() if key != "name"}
    told = LLMConfig(**{**backend, "base": str(folder / "db")}).problems()
    assert "base: is an adapter; name the model it was made for" in told
