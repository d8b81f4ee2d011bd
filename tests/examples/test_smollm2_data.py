"""The data of the SmolLM2 example, a few rows of each skill."""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qdmerge_llm.items import split_of
from qdmerge_llm.sandbox import Sandbox, available

EXAMPLE = Path(__file__).parents[2] / "examples" / "smollm2"
FEW = {"train": 4, "validation": 2, "selection": 2, "test": 2}
SKILLS = ("db", "os", "coding")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        import make_data

        patch.setattr(make_data, "COUNTS", dict.fromkeys(SKILLS, FEW))
        yield make_data
        for name in ("make_data", "_db", "_os", "_coding", "_themes"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def data(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := available():
        pytest.skip(f"no sandbox: {reason}")
    folder = tmp_path_factory.mktemp("data")
    taken: set[str] = set()
    for skill in SKILLS:
        said = script.make(skill, 0, taken, folder, Sandbox())
        assert said["left out"].get("gold turns fail", 0) <= 1
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("skill", SKILLS)
def test_items_are_of_the_tasks_own_form_and_of_no_training_group(
    script: ModuleType, data: Path, skill: str
) -> None:
    kind = script.SKILLS[skill][1]
    items = [kind.read(row, n) for n, row in enumerate(rows(data / f"{skill}-items.jsonl"))]
    assert len(items) >= 5
    assert [kind.problem(item) for item in items] == [None] * len(items)
    assert kind(Sandbox()).unusable(items) == {}
    assert len({item["id"] for item in items}) == len(items)
    assert {split_of(item["group"]) for item in items} == {"validation", "selection", "test"}
    trained = {row["group"] for row in rows(data / f"{skill}-train.jsonl")}
    assert {split_of(group) for group in trained} == {"train"}
    prompts = [kind.read(row, n) for n, row in enumerate(rows(data / f"{skill}-prompts.jsonl"))]
    assert [item["group"] for item in prompts] == [
        row["group"] for row in rows(data / f"{skill}-train.jsonl")
    ]


@pytest.mark.parametrize("skill", SKILLS)
def test_conversations_are_in_the_words_of_the_task(
    script: ModuleType, data: Path, skill: str
) -> None:
    kind = script.SKILLS[skill][1]
    for row in rows(data / f"{skill}-train.jsonl"):
        first, *_, last = row["messages"]
        assert first["content"] == kind.default_system or not kind.default_system
        assert last["role"] == "assistant"
        assert "{" not in last["content"] or skill == "coding"


@pytest.mark.parametrize("skill", SKILLS)
def test_one_seed_draws_one_sequence(script: ModuleType, skill: str) -> None:
    def drawn(seed: int) -> list[Any]:
        return list(islice(script.SKILLS[skill][0](random.Random(seed)), 30))

    assert drawn(3) == drawn(3) != drawn(4)


def test_texts_that_are_taken_or_excluded_are_left_out(script: ModuleType, tmp_path: Path) -> None:
    drawn = list(islice(script.SKILLS["db"][0](random.Random(1)), 40))
    excluded = tmp_path / "rows.json"
    excluded.write_text(json.dumps([{"description": drawn[0]["description"].upper() + " ?"}]))
    taken = script.read_texts([excluded])
    wanted = dict.fromkeys(FEW, 99)
    chosen, left_out = script.choose(iter(drawn + drawn), wanted, taken)
    texts = [script.normalized(row) for row in chosen]
    assert len(set(texts)) == len(texts) == len({script.normalized(row) for row in drawn}) - 1
    assert left_out["seen before or excluded"] == 80 - len(texts)


def test_a_part_of_the_conversations_is_of_the_other_skills(
    script: ModuleType, tmp_path: Path
) -> None:
    own = {skill: [f"{skill} {n}\n" for n in range(20)] for skill in SKILLS}
    for skill, lines in own.items():
        (tmp_path / f"{skill}-train.jsonl").write_text("".join(lines))
    added = script.mix(SKILLS, 0.25, 0, tmp_path)
    for skill in SKILLS:
        found = (tmp_path / f"{skill}-train.jsonl").read_text().splitlines(keepends=True)
        assert found[:20] == own[skill]
        others = [line for other in SKILLS if other != skill for line in own[other]]
        assert len(set(found[20:])) == len(found[20:]) == 10
        assert set(found[20:]) < set(others)
        assert added[skill] == {other: 5 for other in SKILLS if other != skill}


def test_texts_of_benchmarks_are_read_in_their_own_forms(
    script: ModuleType, tmp_path: Path
) -> None:
    prompt = 'def f(x):\n    """Add one to x.\n    >>> f(1)\n    2\n    """\n'
    row = {"prompt": prompt, "entry_point": "f", "test": "def check(candidate): ..."}
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    assert script.read_texts([tmp_path / "HumanEval.jsonl.gz"]) == {"add one to x"}


def test_a_question_of_the_database_has_the_answer_that_its_query_gives(
    script: ModuleType,
) -> None:
    import _db

    rng = random.Random(0)
    table = _db.Table(_db.THEMES[0], rng)
    key, number = table.key, table.numbers[0]
    top = max(table.rows, key=lambda row: int(row[number]))
    query = f"SELECT `{key}` FROM `{table.name}` ORDER BY `{number}` + 0 DESC LIMIT 1"
    assert table.ask(query) == [top[key]]
    assert table.ask(f"SELECT COUNT(*) FROM `{table.name}`") == [str(len(table.rows))]


def test_gold_turns_that_fail_make_no_conversation(
    script: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    problems, kind = script.SKILLS["coding"]
    spoiled: list[str] = []

    def some_wrong(rng: random.Random) -> Iterator[dict[str, Any]]:
        for row in problems(rng):
            if split_of(row["group"]) == "train" and len(spoiled) < 2:
                spoiled.append(row["group"])
                row |= {"gold": ["I do not know."]}
            yield row

    monkeypatch.setitem(script.SKILLS, "coding", (some_wrong, kind))
    said = script.make("coding", 0, set(), tmp_path, Sandbox())
    assert said["left out"]["gold turns fail"] == 2
    trained = [row["group"] for row in rows(tmp_path / "coding-train.jsonl")]
    assert len(trained) == FEW["train"] - 2
    assert not {*spoiled} & {*trained}
