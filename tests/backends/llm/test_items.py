from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qdmerge.errors import ConfigError, Hint
from qdmerge_llm.items import SPLITS, leaked_items, read_items, read_rows, split_of
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.task_settings import SideTaskConfig, TaskConfig
from qdmerge_llm.tasks import AgentBenchDBTask, HumanEvalTask, MBPPTask, ShellTask

ROWS = [{"id": f"i{k}", "prompt": f"do {k}", "files": {}, "expected": str(k)} for k in range(60)]


class Numbered(ShellTask):
    """Rows without ids, whose question is called otherwise."""

    @classmethod
    def read(cls, row: Mapping[str, Any], number: int) -> dict[str, Any]:
        return {**row, "id": f"row-{number}", "prompt": row["question"]}


def written(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def test_lines_lists_and_compressed_files_hold_the_same_items(tmp_path: Path) -> None:
    lines = Path(written(tmp_path / "a.jsonl", ROWS))
    (tmp_path / "a.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    for name in ("a.jsonl", "a.json", "a.jsonl.gz"):
        assert read_items(tmp_path / name, ShellTask) == ROWS


def test_a_kind_reads_rows_of_its_own_form(tmp_path: Path) -> None:
    row = {"question": "how many?\u2028", "files": {}, "expected": "3"}
    path = Path(written(tmp_path / "a.jsonl", [row]))
    (item,) = read_items(path, Numbered)
    assert item == {**row, "id": "row-1", "prompt": "how many?\u2028"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a"', "line 1: not JSON"),
        ("[1]", "entry 1: expected an object in braces"),
        ("[{]", "not JSON"),
        ('\n{"files": {}}', "line 2: field 'question' is missing"),
        ('{"question": 3}', "line 1: 'prompt' must be text"),
        ('{"question": "a"}', "line 1: 'files' must map names to text"),
    ],
)
def test_wrong_rows_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_items(tmp_path / "a.jsonl", Numbered)
    assert str(caught.value).startswith(f"{tmp_path / 'a.jsonl'}")
    assert message in str(caught.value)


def test_a_damaged_compressed_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}")[:-9])
    with pytest.raises(ConfigError, match=r"cannot read .*a\.jsonl\.gz"):
        read_items(tmp_path / "a.jsonl.gz", ShellTask)


def task(data: Any, **counts: Any) -> TaskConfig:
    return TaskConfig(kind="shell", data=data, **counts)


def test_a_file_of_one_split_is_all_its_and_a_shared_one_is_divided(tmp_path: Path) -> None:
    real = [{**row, "id": f"r{k}", "prompt": f"real {k}"} for k, row in enumerate(ROWS[:5])]
    shared = written(tmp_path / "shared.jsonl", ROWS)
    data = {
        "validation": shared,
        "selection": shared,
        "test": written(tmp_path / "real.jsonl", real),
    }
    found = task(data, validation="all", selection=2, test="all").items()
    assert sorted(item["id"] for item in found["test"]) == [row["id"] for row in real]
    assert {item["id"] for item in found["validation"]} == {
        row["id"] for row in ROWS if split_of(row["prompt"]) == "validation"
    }
    assert len(found["selection"]) == 2
    assert {split_of(item["prompt"]) for item in found["selection"]} == {"selection"}


def test_one_prompt_in_files_of_two_splits_is_refused(tmp_path: Path) -> None:
    files = [
        written(tmp_path / f"{k}.jsonl", [{**row, "prompt": "same" if k < 2 else "other"}])
        for k, row in enumerate(ROWS[:3])
    ]
    data = dict(zip(("validation", "selection", "test"), files, strict=True))
    (problem,) = task(data, validation=1, selection=1, test=1).problems()
    assert "items 'i0' (validation) and 'i1' (selection) have the same prompt" in problem


def test_every_split_needs_a_file_and_enough_items(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="one for each of validation, selection, test"):
        task({"validation": "a.jsonl"})
    path = written(tmp_path / "a.jsonl", ROWS[:2])
    (problem,) = task(dict.fromkeys(("validation", "selection", "test"), path)).problems()
    assert "too few items" in problem
    assert "did you mean 'a.jsonl'?" in task(str(tmp_path / "b.jsonl")).problems()[0]


@pytest.mark.parametrize("config", [TaskConfig, SideTaskConfig])
def test_rows_of_benchmarks_that_cannot_be_used_are_named_and_left_out(
    config: Any, tmp_path: Path, sandbox: Sandbox
) -> None:
    assert sandbox.isolated
    row = {"entry_point": "f", "assertion": "assert f(1) == 2", "base_input": [[1]]}
    good = row | {"canonical_solution": "def f(x): return 2 * x"}
    bad = row | {"canonical_solution": "def f(x): return 2 * y"}
    rows = [good | {"task_id": f"r{k}", "prompt": f"Double it {k}."} for k in range(60)]
    rows[7] |= bad
    rows += [{"task_id": "torn"}, {**rows[0], "base_input": 1, "task_id": "odd"}, [1], rows[1]]
    path = written(tmp_path / "a.jsonl", rows)
    splits = ("validation", "selection", "test")
    settings = dict.fromkeys(splits, "all") if config is TaskConfig else {"items_used": 64}
    with pytest.warns(Hint) as told:
        problems, found = config(kind="mbpp", data=path, **settings).examined()
    assert problems == []
    told_of = {str(one.message).removeprefix(f"{path}: ").split(":")[0] for one in told}
    tried = {"item 'r7' is left out"}
    assert told_of | tried == {
        f"{name} is left out"
        for name in (
            "item 'r7'",
            "line 61",
            "item 'odd', line 62",
            "line 63",
            "item 'r1', line 64",
        )
    }
    assert config is TaskConfig or tried <= told_of  # of a divided file it is for training
    kept = {item["id"] for split, items in found.items() for item in items}
    assert kept <= {f"r{k}" for k in range(60)} - {"r7"}
    assert config is TaskConfig or len(kept) == 59
    only = written(tmp_path / "b.jsonl", [rows[7]])
    problems = SideTaskConfig(kind="mbpp", data=only).problems()
    assert "too few items" in problems[0]
    assert "item 'r7': its canonical_solution does not run" in problems[1]


def test_side_tasks_take_all_items_of_their_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", ROWS[:7])
    assert len(SideTaskConfig(kind="shell", data=path).items()["reported"]) == 7
    assert len(SideTaskConfig(kind="shell", data=path, items_used=3).items()["reported"]) == 3


def test_training_conversations_that_ask_what_is_scored_are_found(tmp_path: Path) -> None:
    turns = ["Table t.\nHow many rows  are there?", "An unrelated question, too."]
    rows = [{"messages": [{"role": "user", "content": turn}]} for turn in turns]
    rows += [{"messages": [{"role": "assistant", "content": "Which one is the largest row?"}]}]
    path = Path(written(tmp_path / "train.jsonl", rows))
    questions = {
        "same": "how many rows are there",
        "only answered": "Which one is the largest row?",
        "other": "How many columns are there?",
        "short": "an",
    }
    assert leaked_items(path, questions) == ["same"]
    (tmp_path / "bad.jsonl").write_text("{}")
    with pytest.raises(ConfigError, match=r"bad\.jsonl: cannot be read as conversations"):
        leaked_items(tmp_path / "bad.jsonl", questions)


@pytest.mark.parametrize(
    ("turn", "found"),
    [
        ("Task: count the *files* in /root/work. Be quick.", True),
        ("Hello\n`Count the files in /root/work`\nPlease.", True),
        ("Count the files in /root/work of less than 10 bytes.", False),
        ("Count the files in /root/work/logs.", False),
        ("Of those that you own, count the files in /root/work.", False),
        ("Recount the files in /root/work.", False),
    ],
)
def test_a_question_is_found_in_other_text_but_not_in_a_longer_one(
    turn: str, found: bool, tmp_path: Path
) -> None:
    row = {"messages": [{"role": "user", "content": turn}]}
    path = Path(written(tmp_path / "train.jsonl", [row]))
    assert leaked_items(path, {"it": "Count the files in /root/work."}) == ["it"] * found


def test_benchmarks_are_searched_for_by_their_bare_questions() -> None:
    text = "Write a function to find the shared elements."
    row = {"prompt": f"'''\n{text}\n'''", "entry_point": "f", "assertion": "assert f() == 1"}
    assert MBPPTask.bare_question(MBPPTask.read(row, 1)) == text
    prompt = f'import math\n\n\ndef f(x):\n    """{text}\n    >>> f(1)\n    2\n    """\n'
    item = HumanEvalTask.read({"prompt": prompt, "entry_point": "f"}, 1)
    assert HumanEvalTask.bare_question(item).strip() == text
    table = {"table_name": "t", "table_info": {"columns": [{"name": "a"}], "rows": []}}
    asked = AgentBenchDBTask.read({"description": "How many?", "table": table}, 1)
    assert "name of this table" in asked["prompt"]
    assert AgentBenchDBTask.bare_question(asked) == "How many?"


def test_a_thousand_items_in_a_thousand_conversations_are_searched_for_at_once(
    tmp_path: Path,
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"Number {k}. {'some words ' * 50}"}]}
        for k in range(1000)
    ]
    path = Path(written(tmp_path / "train.jsonl", rows))
    questions = {str(k): f"Is {k} the sum of two squares?" for k in range(1000)}
    assert leaked_items(path, {**questions, "it": "number 999"}) == []
    assert leaked_items(path, {"it": f"Number 999. {'some words ' * 50}"}) == ["it"]


def test_one_group_in_files_of_two_splits_is_refused(tmp_path: Path) -> None:
    groups = ["g", "g", "h"]
    files = [
        written(tmp_path / f"{k}.jsonl", [{**ROWS[k], "group": group}])
        for k, group in enumerate(groups)
    ]
    data = dict(zip(("validation", "selection", "test"), files, strict=True))
    (problem,) = task(data, validation=1, selection=1, test=1).problems()
    assert "items 'i0' (validation) and 'i1' (selection) have the same group" in problem


@given(st.text())
def test_a_split_follows_from_the_sha256_of_the_group_alone(group: str) -> None:
    fraction = int(hashlib.sha256(group.encode()).hexdigest()[:16], 16) / 16**16
    first_edge_above = sum(fraction >= edge for edge in (0.60, 0.72, 0.86))
    assert split_of(group) == SPLITS[first_edge_above]


def test_shares_of_the_splits() -> None:
    counts = Counter(split_of(f"group {n}") for n in range(20_000))
    shares = [counts[split] / 20_000 for split in SPLITS]
    for share, expected in zip(shares, (0.60, 0.12, 0.14, 0.14), strict=True):
        assert abs(share - expected) < 0.015


def test_known_groups_keep_their_split() -> None:
    """A changed hash would silently move test items into training."""
    groups = ("coding/list/even/square/sum", "db/star/all/top", "")
    assert [split_of(group) for group in groups] == ["train", "selection", "test"]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_may_be_one_object(tmp_path: Path, indent: int | None, mark: str) -> None:
    row = {"id": "a", "prompt": "p [", "nested": {"x": [1]}}
    path = tmp_path / "items.json"
    path.write_text(mark + json.dumps(row, indent=indent) + "\n", encoding="utf-8")
    assert [found for _, found in read_rows(path)] == [row]
    path.write_text(mark + f"{json.dumps(row)}\n\n{json.dumps(row)}", encoding="utf-8")
    assert list(read_rows(path)) == [("line 1", row), ("line 3", row)]
