"""Trainings that were ended go on, and only where they may."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch
import yaml

from qdmerge.errors import ConfigError, RunError
from qdmerge.training import unfinished
from qdmerge_llm.training import LoRAConfig, _train, train_lora
from qdmerge_llm.training._config import is_made, is_same
from qdmerge_llm.training._trainer import last_checkpoint
from tests.backends.llm.conftest import python_item
from tests.backends.llm.training.conftest import SETTINGS, same, silent


def interrupt_at(step: int) -> Any:
    def progress(name: str, done: int, total: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("step", [1, 7])
def test_a_killed_training_goes_on_to_the_same_result(
    adapter: Path, base: Path, data: Path, tmp_path: Path, step: int
) -> None:
    class Killed(BaseException):
        pass

    def kill(name: str, done: int, total: int) -> None:
        if done == step + 1:  # the checkpoint of `step` is there
            raise Killed

    out, seen = tmp_path / "adapter", []
    with pytest.raises(Killed):
        train_lora(base, data, out, SETTINGS, kill, checkpoint_seconds=0)
    assert not out.exists()
    torn = tmp_path / "adapter.training" / "checkpoint-99"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"torn')
    train_lora(base, data, out, SETTINGS, lambda *told: seen.append(told))
    assert seen[0] == ("adapter", step, 15)
    assert seen[-1] == ("adapter", 15, 15)
    assert same(adapter, out)
    records = [json.loads((path / "qdmerge.json").read_text()) for path in (adapter, out)]
    assert records[0]["loss"] == pytest.approx(records[1]["loss"], rel=1e-3)


def test_the_state_of_other_settings_is_not_continued(
    base: Path, data: Path, tmp_path: Path
) -> None:
    def kill(name: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    out, seen = tmp_path / "adapter", []
    with pytest.raises(KeyboardInterrupt):
        train_lora(base, data, out, SETTINGS, kill, checkpoint_seconds=0)
    other = SETTINGS.model_copy(update={"learning_rate": 1e-3, "steps": 2})
    train_lora(base, data, out, other, lambda *told: seen.append(told))
    assert seen == [("adapter", done, 2) for done in (0, 1, 2)]


def test_other_versions_go_on_with_a_training_and_are_recorded(
    adapter: Path, base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "adapter", []
    for step, number in ((4, "0.1"), (4, "0.1"), (8, "0.2")):  # its own first version begins it
        monkeypatch.setattr(_train, "version", lambda name, number=number: f"{name} {number}")
        with pytest.raises(KeyboardInterrupt):
            train_lora(base, data, out, SETTINGS, interrupt_at(step), checkpoint_seconds=0)
    monkeypatch.undo()
    train_lora(base, data, out, SETTINGS, lambda *told: seen.append(told))
    assert seen[0] == ("adapter", 7, 15)
    assert same(adapter, out)
    record = json.loads((out / "qdmerge.json").read_text())
    assert [old["peft"] for old in record["earlier_versions"]] == ["peft 0.1", "peft 0.2"]
    assert record["versions"]["torch"] == torch.__version__
    assert "earlier_versions" not in json.loads((adapter / "qdmerge.json").read_text())


def test_records_of_before_a_setting_are_of_the_same_training(tmp_path: Path) -> None:
    made_from = {
        "base": {"sha256": "b"},
        "data": {"sha256": "d"},
        "settings": LoRAConfig().model_dump(mode="json"),
        "versions": {},
    }
    settings = {k: v for k, v in made_from["settings"].items() if k != "clip"}
    state, out = tmp_path / "db.training", tmp_path / "db"
    state.mkdir()
    out.mkdir()
    (state / "made-from.json").write_text(json.dumps({**made_from, "settings": settings}))
    (out / "qdmerge.json").write_text(json.dumps({**made_from, "settings": settings}))
    (state / "checkpoint-7").mkdir()
    with unfinished(out, made_from, is_same):
        assert (state / "checkpoint-7").exists()
    assert is_made(out, made_from)
    made_from["settings"]["clip"] = 0.5
    with unfinished(out, made_from, is_same):
        assert not (state / "checkpoint-7").exists()
    with pytest.raises(ConfigError, match="not made from this base"):
        is_made(out, made_from)


def test_what_another_process_made_meanwhile_is_not_made_again(
    adapter: Path, base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "adapter"

    @contextmanager
    def late(*given: Any) -> Iterator[Any]:
        shutil.copytree(adapter, out)  # the other one ends just before this one has the folder
        with unfinished(*given) as found:
            yield found

    monkeypatch.setattr(_train, "unfinished", late)
    seen: list[Any] = []
    assert train_lora(base, data, out, SETTINGS, lambda *told: seen.append(told)) == out
    assert seen == [("adapter", 1, 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_checkpoint_that_this_version_cannot_read_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((2, "{}"), (10, '{"of_another_version": 1}')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_two_processes_do_not_train_one_expert(base: Path, data: Path, tmp_path: Path) -> None:
    state = tmp_path / "db.training"
    state.mkdir()
    with (
        filelock.FileLock(state / "lock"),
        pytest.raises(RunError, match=r"another process is training \S+db; wait"),
    ):
        train_lora(base, data, tmp_path / "db", SETTINGS, silent)
    few = SETTINGS.model_copy(update={"steps": 1})
    train_lora(base, data, tmp_path / "db", few, silent)  # what it left is no obstacle
    assert [path.name for path in tmp_path.iterdir()] == ["db"]
    with pytest.raises(ConfigError, match=r"cannot write .*weights/db\.training"):
        train_lora(base, data, tmp_path / "db/adapter_model.safetensors/weights/db", few, silent)


def test_what_is_made_is_left_and_what_is_other_is_refused(
    adapter: Path, base: Path, data: Path
) -> None:
    before = (adapter / "qdmerge.json").read_bytes()
    assert train_lora(base, data, adapter, SETTINGS, silent) == adapter
    assert (adapter / "qdmerge.json").read_bytes() == before
    with pytest.raises(ConfigError, match="not made from this base.*Remove it"):
        train_lora(base, data, adapter, SETTINGS.model_copy(update={"rank": 8}), silent)


def test_a_folder_of_something_else_is_not_taken_for_an_unfinished_training(
    base: Path, data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "db.training" / "notes.txt"
    other.parent.mkdir()
    other.write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        train_lora(base, data, tmp_path / "db", SETTINGS, silent)
    assert other.read_text() == "mine"


COMMAND = """
from qdmerge_llm.training import train_lora
train_lora.__defaults__ = (0.0,)  # a checkpoint after every step
from qdmerge.cli import main
main()
"""


@pytest.mark.slow  # the command starts twice, which takes longer than the training
def test_a_killed_command_goes_on_to_the_same_result(
    base: Path, data: Path, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 40})
    splits = {}
    for n, split in enumerate(("validation", "selection", "test")):
        item = {"id": split, **python_item(10 + n)}
        splits[split] = str(tmp_path / f"{split}.jsonl")
        Path(splits[split]).write_text(json.dumps(item) + "\n")
    counts = dict.fromkeys(splits, "all")
    config = {
        "backend": {
            "name": "llm",
            "base": str(base),
            "experts": {"adder": str(tmp_path / "adder")},
            "training": {"adder": {"data": str(data), "lora": settings.model_dump(mode="json")}},
            "tasks": {"adder": {"kind": "python", "data": splits, **counts}},
        }
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-c", COMMAND, "experts", str(tmp_path / "study.yaml")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        state = tmp_path / "adder.training"
        while last_checkpoint(state) is None and process.poll() is None:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
        assert not (tmp_path / "adder").exists()
        reached = last_checkpoint(state)
        again = subprocess.run(command, capture_output=True, text=True)
    assert reached is not None
    assert again.returncode == 0, again.stderr
    assert "Made adder in" in again.stdout
    assert not state.exists()
    assert same(tmp_path / "adder", train_lora(base, data, tmp_path / "whole", settings, silent))
    records = [json.loads((tmp_path / k / "qdmerge.json").read_text()) for k in ("adder", "whole")]
    assert records[0]["loss"] == pytest.approx(records[1]["loss"], rel=1e-3)
