"""Studies broken in one place each: ``qdmerge check`` names the place in a line, before a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from qdmerge_llm.sandbox import available
from tests.backends.llm.conftest import COUNTS, few_items, micro_models, micro_tokenizer
from tests.cli.broken import BROKEN, Break, both, segmentation, write_rows
from tests.cli.test_commands import call


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, data and a study that can be run."""
    folder = tmp_path_factory.mktemp("sound")
    for name, model in micro_models():
        if name in ("base", "coding", "db"):
            model.save_pretrained(folder / name)
            micro_tokenizer().save_pretrained(folder / name)
    for name, kind in {"coding": "python", "db": "sql"}.items():
        write_rows(folder / f"{name}.jsonl", few_items(kind))
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / "pictures" / part).mkdir(parents=True)
        for k in range(8):
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            picture = pixels if part == "images" else 255 * (pixels[..., 0] > 99).astype(np.uint8)
            Image.fromarray(picture).save(folder / "pictures" / part / f"{k}.png")
    shutil.copytree(folder / "pictures", folder / "others")
    return folder


@pytest.fixture
def study(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings of a study that can be run, in a working directory of its own."""
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    if available():  # settings are checked the same on machines without a sandbox
        monkeypatch.setattr("qdmerge_llm.sandbox.available", lambda: None)
    task = {"max_new_tokens": 24, **COUNTS}
    return {
        "evaluations": 8,
        "space": "expert",
        "backend": {
            "name": "llm",
            "base": "base",
            "experts": {"coding": "coding", "db": "db"},
            "tasks": {
                "coding": {"kind": "python", "data": "coding.jsonl", **task},
                "db": {"kind": "sql", "data": "db.jsonl", **task},
            },
            "device": "cpu",
        },
    }


def check(settings: dict[str, Any], *arguments: object) -> tuple[int, list[str]]:
    """Exit status of ``qdmerge check``, and its lines without warnings."""
    Path("study.yaml").write_text(yaml.safe_dump(settings))
    code, output = call("check", "study.yaml", *arguments)
    return code, [line for line in output.splitlines() if not line.startswith("Warning:")]


@pytest.mark.parametrize("breaking", [both(), segmentation()], ids=["llm", "segmentation"])
def test_the_study_itself_can_be_run(study: dict[str, Any], breaking: Break) -> None:
    breaking(study)
    code, lines = check(study)
    assert code == 0, lines
    assert "is fine" in lines[0]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_study_is_found(name: str, study: dict[str, Any]) -> None:
    breaking, cause = BROKEN[name]
    breaking(study)
    code, lines = check(study)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    assert cause in lines[0]


@pytest.mark.parametrize("out", ["study.yaml/run", "db", "done"])
def test_a_folder_that_cannot_be_a_run_s_is_found(out: str, study: dict[str, Any]) -> None:
    Path("done").mkdir()
    Path("done/events.jsonl").write_text("{}\n")
    code, lines = check(study, "--out", out)
    assert (code, len(lines)) == (2, 1), lines
    assert out in lines[0]
    assert not Path("study.yaml").is_dir()


def test_a_place_where_no_run_can_begin_is_found(study: dict[str, Any]) -> None:
    Path("runs").write_text("a file")
    code, (line,) = check(study)
    assert code == 2
    assert "runs is not a folder" in line
    assert check(study, "--out", "other/run")[0] == 0
    assert not Path("other").exists()


def test_a_cache_that_cannot_be_written_is_found(
    study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDMERGE_CACHE", "db.jsonl/cache")
    Path("base/config.json").write_text(Path("base/config.json").read_text() + " ")
    code, (line,) = check(study)
    assert code == 2
    assert "$QDMERGE_CACHE" in line


def test_a_machine_without_a_sandbox_is_found(
    study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QDMERGE_BWRAP", "/nonexistent")
    code, (line,) = check(study)
    assert code == 2
    assert "no bwrap was found" in line
