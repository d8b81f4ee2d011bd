"""The two tasks of general language ability, from a WordNet of a few words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qdmerge_llm.tasks import LMEvalTask

SCRIPT = Path(__file__).parents[2] / "examples" / "smollm2" / "make_retention.py"
LICENSE = '  1 This software and database is being provided to you | the LICENSEE; "a b"  \n'
WORDS = [a + b for a in ("bar", "cor", "dun", "fel", "gim") for b in ("ak", "en", "il", "ost")]


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 nouns that are common, one that is rare, and one whose sense is not its most common."""
    folder = tmp_path_factory.mktemp("wordnet")
    lines, counts = [], []
    for k, word in enumerate([*WORDS, "rare", "second"]):
        gloss = f"a thing (of sorts) that has the number {k} of all"
        example = f"she gave him the {word} of number {k} today"
        lines.append(f'{k:08d} 03 n 01 {word} 0 000 | {gloss}; "{example}"  \n')
        counts.append(f"{word}%1:03:00:: {1 + (word == 'second')} {2 if word == 'rare' else 5}\n")
    (folder / "data.noun").write_text(LICENSE + "".join(lines))
    (folder / "data.verb").write_text(LICENSE)
    (folder / "data.adj").write_text(LICENSE)
    (folder / "cntlist.rev").write_text("".join(counts))
    return folder


def make(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--out", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_tasks_ask_for_one_of_four_words(
    wordnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = make(tmp_path / "a", "--wordnet", str(wordnet), "--items", "15")
    assert done.returncode == 0, done.stderr
    for name in ("definitions", "sentences"):
        rows = [json.loads(s) for s in (tmp_path / "a" / f"{name}.jsonl").read_text().splitlines()]
        assert len(rows) == 15
        asked = set()
        for row in rows:
            words = [choice.split(" ")[0] for choice in row["choices"]]
            assert len(set(words)) == 4
            assert set(words) <= set(WORDS)
            right = WORDS[int(next(t for t in str(row).split() if t.strip("'").isdigit()))]
            assert words[row["answer"]] == right
            asked.add(right)
        assert len(asked) == 15
        assert {row["answer"] for row in rows} == {0, 1, 2, 3}
    make(tmp_path / "b", "--wordnet", str(wordnet), "--items", "15")
    make(tmp_path / "c", "--wordnet", str(wordnet), "--items", "15", "--seed", "1")
    texts = [(tmp_path / name / "sentences.jsonl").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra 'eval')")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    task = LMEvalTask("wordnet_sentences", str(tmp_path / "a"))
    item = task.own_items()[0]
    row = json.loads(texts[0].splitlines()[0])
    assert item["requests"] == [["she gave him the", " " + choice] for choice in row["choices"]]
    assert item["target"] == str(row["answer"])


def test_what_is_missing_is_told_in_a_line(wordnet: Path, tmp_path: Path) -> None:
    done = make(tmp_path / "out", "--wordnet", str(tmp_path))
    assert done.returncode == 1
    assert "apt install wordnet-base" in done.stderr
    assert done.stderr.count("\n") == 1
    done = make(tmp_path / "out", "--wordnet", str(wordnet), "--items", "21")
    assert "20 such questions, 21 were wanted" in done.stderr
