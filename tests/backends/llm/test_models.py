"""What shows of models before any of them is loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from qdmerge.checkpoints import weights_digest
from qdmerge_llm.config import LLMConfig
from qdmerge_llm.models import read_template
from qdmerge_llm.training import RECORD, LoRAConfig

ROWS = [
    {"id": f"i{k}", "prompt": f"do the thing number {k}", "files": {}, "expected": "1"}
    for k in range(9)
]
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture(autouse=True)
def any_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qdmerge_llm.sandbox.available", lambda: None)
    monkeypatch.setattr("qdmerge_llm.task_settings.available", lambda: "not needed here")
    # The models here have the shapes of none of transformers'.
    monkeypatch.setattr("qdmerge_llm.models.loading_problems", lambda *_: [])


def model(folder: Path, hidden: int = 4, kind: str = "llama", layers: int = 2) -> Path:
    folder.mkdir()
    sizes = {"model_type": kind, "hidden_size": hidden, "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(sizes))
    save_file({"w": np.ones((hidden, 3), np.float32)}, folder / "model.safetensors")
    return folder


def adapter(folder: Path, record: dict[str, Any]) -> Path:
    folder.mkdir()
    settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 1}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    factors = {"lora_A": np.ones((1, 3), np.float32), "lora_B": np.ones((4, 1), np.float32)}
    names = {f"base_model.model.m.{name}.weight": value for name, value in factors.items()}
    save_file(names, folder / "adapter_model.safetensors")
    (folder / RECORD).write_text(json.dumps(record))
    return folder


def gguf_file(path: Path, chat: bool = False) -> Path:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(4)
    writer.add_block_count(2)
    if chat:
        writer.add_chat_template(TEMPLATE)
    writer.add_tensor("token_embd.weight", np.ones((3, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def problems(tmp_path: Path, base: Path, expert: Path, **settings: Any) -> list[str]:
    parts = zip(("validation", "selection", "test"), (ROWS[:3], ROWS[3:6], ROWS[6:]), strict=True)
    data = {split: lines(tmp_path / f"{split}.jsonl", rows) for split, rows in parts}
    task = {"kind": "shell", "data": data, **dict.fromkeys(data, "all")}
    settings.setdefault("tasks", {"os": {**task, **settings.pop("task", {})}})
    return LLMConfig(base=str(base), experts={"os": str(expert)}, **settings).problems()


@pytest.mark.parametrize("name", ["base.gguf", "BASE.GGUF"])
def test_experts_of_a_gguf_base_are_examined(name: str, tmp_path: Path) -> None:
    base = gguf_file(tmp_path / name)
    assert problems(tmp_path, base, model(tmp_path / "fits")) == []
    (line,) = problems(tmp_path, base, model(tmp_path / "other", kind="qwen2"))
    assert line.endswith("is a 'qwen2' model, the base is a 'llama' model")
    (line,) = problems(tmp_path, base, model(tmp_path / "wide", hidden=6))
    assert line.endswith("has other sizes (base -> expert): hidden_size 4 -> 6")
    torn = model(tmp_path / "torn")
    (torn / "model.safetensors").unlink()
    index = {"weight_map": {"w": "model-1.safetensors"}}
    (torn / "model.safetensors.index.json").write_text(json.dumps(index))
    (line,) = problems(tmp_path, base, torn)
    assert "shards are missing: model-1.safetensors" in line


def test_a_converted_gguf_base_is_compared_by_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, folder = gguf_file(tmp_path / "base.gguf"), model(tmp_path / "converted")
    monkeypatch.setattr("qdmerge_llm.gguf.converted", lambda path: folder)
    (line,) = problems(tmp_path, base, model(tmp_path / "wide", hidden=6))
    assert "w (4, 3) -> (6, 3)" in line


def test_gguf_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expert = model(tmp_path / "expert")
    (tmp_path / "text.gguf").write_text("GGML")
    (line,) = problems(tmp_path, tmp_path / "text.gguf", expert)
    assert line == f"base: {tmp_path / 'text.gguf'} is not a GGUF file: it must begin with GGUF."
    (tmp_path / "torn.gguf").write_bytes(b"GGUF\3\0")
    (line,) = problems(tmp_path, tmp_path / "torn.gguf", expert)
    assert "cannot be read as a GGUF language model" in line
    base = gguf_file(tmp_path / "base.gguf")
    (line,) = problems(tmp_path, expert, base)
    assert "is a GGUF file, which only the base can be" in line
    monkeypatch.setattr("qdmerge_llm.gguf.find_spec", lambda name: None)
    (line,) = problems(tmp_path, base, expert)
    assert "pip install 'qdmerge[gguf]'" in line


def test_chat_templates_are_asked_for_where_they_are_needed(tmp_path: Path) -> None:
    base, expert = model(tmp_path / "base"), model(tmp_path / "expert")
    row = {"prompt": "Add one.", "entry_point": "f", "canonical_solution": "", "base_input": [[1]]}
    row["assertion"] = "assert f(1) == 2"
    chat = {"kind": "mbpp", "data": lines(tmp_path / "mbpp.jsonl", [row])}
    asked: dict[str, Any] = {"side_tasks": {"more": chat}}
    (line,) = problems(tmp_path, base, expert, **asked)
    assert line.startswith("base: its tokenizer has no chat template, and 'more' ask in conv")
    assert problems(tmp_path, base, expert, chat_template=TEMPLATE, **asked) == []
    (line,) = problems(tmp_path, base, expert, chat_template=str(tmp_path / "no"), **asked)
    assert "neither the text of a Jinja template nor a file" in line
    (tmp_path / "chat.jinja").write_text(TEMPLATE)
    assert read_template(str(tmp_path / "chat.jinja")) == read_template(TEMPLATE) == TEMPLATE
    (base / "chat_template.jinja").write_text(TEMPLATE)
    assert problems(tmp_path, base, expert, **asked) == []
    packed = gguf_file(tmp_path / "base.gguf", chat=True)
    assert problems(tmp_path, packed, expert, **asked) == []
    (line,) = problems(tmp_path, gguf_file(tmp_path / "plain.gguf"), expert, **asked)
    assert "no chat template" in line


def test_what_tasks_lack_is_said_at_once(tmp_path: Path) -> None:
    base, expert = model(tmp_path / "base"), model(tmp_path / "expert")
    side = {"more": {"kind": "shell"}}
    with pytest.warns(FutureWarning, match=r"'backend\.reported' is now 'backend\.side_tasks'"):
        found = problems(tmp_path, base, expert, reported=side, task={"stop": ["\n", ""]})
    assert found[0].startswith("task 'os': 'stop': an empty string ends every answer")
    assert found[1:] == ["side task 'more': 'data' is missing: 'shell' needs a file of items"]


def test_what_the_search_sees_is_no_side_task(tmp_path: Path) -> None:
    base, expert = model(tmp_path / "base"), model(tmp_path / "expert")
    for number, refused in ((4, ["item 'i4' is item 'i4' of task 'os' (selection)"]), (7, [])):
        data = lines(tmp_path / "more.jsonl", [ROWS[number]])
        found = problems(
            tmp_path, base, expert, side_tasks={"more": {"kind": "shell", "data": data}}
        )
        assert len(found) == len(refused)
        assert all(part in line for part, line in zip(refused, found, strict=True))


def test_every_training_that_is_here_is_searched_for_items(tmp_path: Path) -> None:
    base, expert = model(tmp_path / "base"), model(tmp_path / "expert")
    rows = [{"messages": [{"role": "user", "content": f"Please: {ROWS[7]['prompt']}!"}]}]
    training = {"os": {"data": lines(tmp_path / "train.jsonl", rows)}}
    assert expert.is_dir()  # so it is not to be made
    (line,) = problems(tmp_path, base, expert, training=training)
    assert line.endswith("on: 1 items, such as 'i7' of 'os' (test). Remove them from one of both")
    (tmp_path / "train.jsonl").unlink()
    assert problems(tmp_path, base, expert, training=training) == []


def test_items_of_one_id_are_all_searched_for(tmp_path: Path) -> None:
    base, expert = model(tmp_path / "base"), model(tmp_path / "expert")
    same = [{**row, "id": "1"} for row in ROWS[:3]]
    data = {
        split: lines(tmp_path / f"one-{split}.jsonl", [row])
        for split, row in zip(("validation", "selection", "test"), same, strict=True)
    }
    talks = [{"messages": [{"role": "user", "content": same[0]["prompt"]}]}]
    training = {"os": {"data": lines(tmp_path / "train.jsonl", talks)}}
    (line,) = problems(tmp_path, base, expert, task={"data": data}, training=training)
    assert "on: 1 items, such as '1' of 'os' (validation)." in line


def test_adapters_made_otherwise_are_told(tmp_path: Path) -> None:
    base = model(tmp_path / "base")
    save_file({"m.weight": np.ones((4, 3), np.float32)}, base / "model.safetensors")
    rows = [{"messages": [{"role": "user", "content": "Something else entirely."}]}]
    data = Path(lines(tmp_path / "train.jsonl", rows))
    lora = LoRAConfig(rank=1, epochs=2)
    record = {
        "base": {"sha256": weights_digest(base)},
        "data": {"sha256": hashlib.sha256(data.read_bytes()).hexdigest()},
        "settings": lora.model_dump(mode="json"),
    }
    del record["settings"]["clip"]  # made before there was such a setting
    expert = adapter(tmp_path / "expert", record)

    def told(**changes: Any) -> str:
        training = {"os": {"data": str(data), "lora": {"rank": 1, "epochs": 2} | changes}}
        return " ".join(problems(tmp_path, base, expert, training=training))

    assert told() == ""
    line = told(epochs=3, learning_rate=0.5)
    assert line.startswith(f"expert 'os': {expert} was made with learning_rate 0.001 instead of")
    assert "epochs 2 instead of 3: remove the folder and call `qdmerge experts`" in line
    data.write_text(data.read_text() + "\n")
    assert f"from other conversations than {data} holds now" in told()
    data.unlink()
    assert told() == ""
    save_file({"m.weight": np.zeros((4, 3), np.float32)}, base / "model.safetensors")
    assert "was made on a base of other weights: remove the folder" in told()
    (line,) = problems(tmp_path, base, expert)
    assert "name that base, or, if you are sure" in line
