"""The exercises of language models' zoos: drawn from a seed, disjoint, and right."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdmerge_llm.items import SPLITS, check_disjoint, split_of
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import KINDS
from qdmerge_zoo.llm import TASKS, Item, ZooSpec, _shell, items
from qdmerge_zoo.llm._grammar import Op

SAMPLE = 60
TASK_KINDS = {
    **{"coding": "python", "db": "sql", "os": "shell"},
    **{"regex": "python", "joins": "sql", "sed": "shell"},
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Item]]:
    return {task: items(task, ZooSpec().items) for task in TASKS}


def run_shell(command: str, files: dict[str, str], folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stdout


@pytest.mark.parametrize("task", TASKS)
def test_items_follow_from_the_seed(task: str) -> None:
    assert items(task, 50, seed=3) == items(task, 50, seed=3)
    assert items(task, 20, seed=3) == items(task, 50, seed=3)[:20]
    assert items(task, 50, seed=4) != items(task, 50, seed=3)


@pytest.mark.parametrize("task", TASKS)
def test_no_prompt_comes_twice_and_ids_are_unique(drawn: dict[str, list[Item]], task: str) -> None:
    assert len({item.prompt for item in drawn[task]}) == ZooSpec().items
    assert len({item.id for item in drawn[task]}) == ZooSpec().items


@pytest.mark.parametrize("task", TASKS)
def test_every_split_has_enough_items_of_many_groups(
    drawn: dict[str, list[Item]], task: str
) -> None:
    counts = Counter(split_of(item.group) for item in drawn[task])
    groups = Counter(split_of(group) for group in {item.group for item in drawn[task]})
    assert min(counts[split] for split in SPLITS) >= 300
    assert min(groups[split] for split in SPLITS) >= 40


@pytest.mark.parametrize("task", TASKS)
def test_no_answer_is_shared_between_training_and_the_other_splits(
    drawn: dict[str, list[Item]], task: str
) -> None:
    """Two wordings or combinations of the same answer would leak it."""
    splits: dict[str, set[bool]] = defaultdict(set)
    for item in drawn[task]:
        splits[item.answer].add(split_of(item.group) == "train")
    assert not [answer for answer, trained in splits.items() if len(trained) > 1]


@pytest.mark.parametrize("task", TASKS)
def test_no_prompt_and_no_group_is_in_two_splits(drawn: dict[str, list[Item]], task: str) -> None:
    splits: dict[str, list[dict]] = defaultdict(list)
    for item in drawn[task]:
        splits[split_of(item.group)].append(item.record())
    check_disjoint(splits)


@pytest.mark.parametrize("task", TASKS)
def test_golds_and_nothing_less_pass_in_the_sandbox(
    drawn: dict[str, list[Item]], task: str, sandbox: Sandbox
) -> None:
    kind = KINDS.build(TASK_KINDS[task], {}, {"sandbox": sandbox})
    records = [item.record() for item in drawn[task][:SAMPLE]]
    assert [kind.problem(record) for record in records] == [None] * SAMPLE
    assert kind.score(records, [record["answer"] for record in records]).mean() == 1.0
    others = [record["answer"] for record in records[1:] + records[:1]]
    assert kind.score(records, others).mean() < 0.1


@pytest.mark.parametrize("task", ["coding", "regex"])
def test_coding_golds_pass_their_tests_and_are_not_constant(
    drawn: dict[str, list[Item]], task: str
) -> None:
    for item in drawn[task][:SAMPLE]:
        scope: dict = {}
        exec(item.answer, scope)
        results = [scope[item.check["entry"]](*test["args"]) for test in item.check["tests"]]
        assert results == [test["expected"] for test in item.check["tests"]]
        assert 4 <= len(results) <= 6
        assert any(result != results[0] for result in results)


@pytest.mark.parametrize("task", ["db", "joins"])
def test_db_golds_find_something_and_orders_have_no_ties(
    drawn: dict[str, list[Item]], task: str
) -> None:
    for item in drawn[task][:SAMPLE]:
        database = sqlite3.connect(":memory:")
        database.executescript(item.check["setup"])
        rows = database.execute(item.answer).fetchall()
        assert rows
        assert rows[0][0] is not None
        assert item.check["reference"] == item.answer
        assert item.check["ordered"] == ("ORDER BY" in item.answer)
        database.execute("PRAGMA reverse_unordered_selects = ON")
        again = database.execute(item.answer).fetchall()
        if item.check["ordered"]:
            assert again == rows
        else:
            assert Counter(again) == Counter(rows)


@pytest.mark.parametrize("task", ["os", "sed"])
def test_os_golds_print_what_the_model_of_the_tools_expects(
    drawn: dict[str, list[Item]], task: str, tmp_path: Path
) -> None:
    for item in drawn[task][:SAMPLE]:
        printed = run_shell(item.answer, item.check["files"], tmp_path / item.id)
        assert printed == item.check["expected"] != ""


@pytest.mark.parametrize(
    "tool", {tool.op.name: tool for slots in _shell.SHAPES for s in slots for tool in s}.values()
)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_each_modeled_tool_does_what_the_real_one_does(
    tool: _shell.Tool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = st.text("abn,09 ", min_size=1, max_size=8)
    lines = data.draw(st.lists(text, min_size=1, max_size=6))
    value = data.draw(st.sampled_from(tool.op.values or ("",)))
    content = "".join(f"{line}\n" for line in lines)
    command = f"cat f | {tool.op.code.format(k=value)}"
    printed = run_shell(command, {"f": content}, tmp_path_factory.getbasetemp() / tool.op.name)
    assert printed == "".join(f"{line}\n" for line in tool.run(lines, value))


@pytest.mark.parametrize("action", _shell.ACTIONS, ids=lambda action: action.op.name)
@pytest.mark.parametrize("address", _shell.ADDRESSES, ids=lambda address: address.op.name)
def test_each_modeled_command_does_what_sed_does(
    address: _shell.Address, action: _shell.Action, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for number in range(2):
        lines = [" ".join(rng.choice(_shell.SED_WORDS[:4], 3).tolist()) for _ in range(5)]
        what = action.op.draw(rng, a=lines[0][:3], b="jam")
        command = _shell.Command(address, address.op.draw(rng), action, what, (lines[0][:3], "jam"))
        content = "".join(f"{line}\n" for line in lines)
        printed = run_shell(f"sed {command.code} f", {"f": content}, tmp_path / str(number))
        assert printed == "".join(f"{line}\n" for line in _shell.edited(lines, [command]))


def test_an_op_says_the_value_that_it_writes() -> None:
    op = Op("above", ("above {k} in {column}",), "{column} > {k}", ("3", "4"))
    drawn = {op.draw(np.random.default_rng(seed), column="age") for seed in range(20)}
    assert {(d.phrase, d.code, d.value) for d in drawn} == {
        ("above 3 in age", "age > 3", "3"),
        ("above 4 in age", "age > 4", "4"),
    }
