from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from qdmerge.errors import EvaluationError
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import KINDS, Episode, replay
from qdmerge_llm.tasks.system import AgentBenchOSTask
from qdmerge_llm.tasks.system._problems import (
    COMPARISONS,
    Source,
    size,
    stock_log,
    sums,
    understand,
)
from qdmerge_llm.tasks.system._protocol import Action, parse, report

COUNT = {
    "description": "How many files are in /home?",
    "create": {"init": {"code": "touch /home/a /home/b"}},
    "evaluation": {
        "check": [None, {"language": "python", "file": "check/integer-match.py"}],
        "example": {"code": "ls /home | wc -l"},
    },
}


def bash(code: str) -> str:
    return f"Think: so\n\nAct: bash\n\n```bash\n{code}\n```"


def episode(task: AgentBenchOSTask, row: dict[str, Any], turns: Sequence[str]) -> Episode:
    """The episode of a row in which a model says these turns."""
    rest = list(turns)
    return task.play([task.read(row, 1)], lambda prompts: [rest.pop(0)])[0]


@pytest.fixture(scope="module")
def task(sandbox: Sandbox) -> AgentBenchOSTask:
    return AgentBenchOSTask(sandbox)


def shared(name: str) -> Path:
    folder = Path(os.environ.get("QDMERGE_SHARED_DATA", Path(__file__).parents[4] / "shared/data"))
    if not (folder / name).exists():
        pytest.skip(f"the real data is not there: {folder / name}")
    return folder / name


def test_gold_replay_of_the_real_rows(task: AgentBenchOSTask) -> None:
    rows = json.loads(shared("agentbench/os-dev.json").read_text())
    items = [task.read(row, number) for number, row in enumerate(rows, 1)]
    assert [task.problem(item) for item in items] == [None] * 26
    assert len({item["id"] for item in items}) == 26
    broken = task.unusable(items)
    assert len(broken) <= (0 if task._sandbox.users else 1)
    items = [item for item in items if item["id"] not in broken]
    episodes = replay(task, items)
    table = [
        f"{e.score:.0f} {len(e.messages)} {e.item['prompt'][:70]} {e.detail}" for e in episodes
    ]
    print("\n".join(table))
    assert all(e.score == 1.0 for e in episodes), "\n".join(table)


def test_an_episode(task: AgentBenchOSTask) -> None:
    turns = [bash("cd /home && ls"), bash("ls | wc -l"), "Think: I see\n\nAct: answer(2)"]
    played = episode(task, COUNT, turns)
    assert played.score == 1
    said = [message["content"] for message in played.messages if message["role"] == "user"]
    assert said == [
        COUNT["description"],
        "The output of the OS:\n\na\nb",
        "The output of the OS:\n\n2",
    ]
    assert "Act: bash" in played.messages[0]["content"]


@pytest.mark.parametrize(
    ("turns", "detail"),
    [
        (["Act: answer(3)"], "wrong answer"),
        (["Act: answer()"], "wrong answer"),
        (["Act: answer"], "no action"),
        (["Act: finish"], "wrong answer"),
        (["There are 2."], "no action"),
        (["Act: bash\nls"] * 5, "no answer within 5 rounds"),
        ([bash("true")] * 5, "no answer within 5 rounds"),
        ([bash("touch /home/c"), "Act: answer(3)"], "wrong answer"),
        ([bash(":(){ :|:& };: ; sleep 9"), "Act: answer(2)"], None),
    ],
)
def test_failures_say_why(task: AgentBenchOSTask, turns: list[str], detail: str | None) -> None:
    played = episode(task, COUNT, turns)
    if detail is None:
        detail = "too many processes" if task._sandbox.users else ""
        assert played.detail == detail
    else:
        assert (played.score, played.detail) == (0, detail)


@pytest.mark.parametrize(
    ("turn", "action"),
    [
        (bash("ls"), Action("bash", "ls")),
        ("Act: bash\n```bash\na\n```\nand\n```bash\nb\n\nc\n```", Action("bash", "a\n\nb\n\nc")),
        ("Act: bash\n```bash\n```", Action("bash", "")),
        ("act: bash\n```bash\nls\n```", None),
        ("Act: bash\n```sh\nls\n```", Action("bash", "")),
        ("Act: bash\n```bash\nls", Action("bash", "")),
        ("Act: bash", Action("bash", "")),
        ("Think: x\nAct: Finish.", Action("finish")),
        ("Act: answer(2)", Action("finish", "2")),
        ("Act: **answer(2)**", None),
        ("Act: answer )2(", Action("finish", "")),
        ("Act: bash\n```bash\nls\n```\nAct: answer 2", Action("bash", "ls")),
        ("Act: answer(f(x) (y))", Action("finish", "f(x) (y)")),
        ("Act: Answer: (a, b) ", Action("finish", "a, b")),
        ("Act: answer 2", None),
        ("Act: answer", None),
        ("Act: bash\nAct: answer(1)", Action("finish", "1")),
        ("Act: answer(1)\nAct: something", Action("finish", "1")),
        ("Act: something", None),
        ("", None),
    ],
)
def test_actions(turn: str, action: Action | None) -> None:
    assert parse(turn) == action


def test_outputs_are_cut_and_said_so(sandbox: Sandbox) -> None:
    assert report("", 800) == "The output of the OS is empty."
    assert report("x" * 800, 800).endswith("x")
    long = report("x" * 801, 800)
    assert long.count("x") == 780
    assert long.endswith("[the output is longer; it was cut here]")
    played = episode(AgentBenchOSTask(sandbox), COUNT, [bash("yes"), "Act: finish"])
    assert len(played.messages[3]["content"]) < 900
    assert "it was cut here" in played.messages[3]["content"]


def test_a_silent_command_goes_on_and_the_next_comes_after_it(sandbox: Sandbox) -> None:
    task = AgentBenchOSTask(sandbox, seconds=0.5)
    turns = [bash("echo a; sleep 1.5; echo b; touch /late"), bash("echo c"), bash("ls /late")]
    played = episode(task, row({"check": "test -e /late"}), [*turns, turns[2], "Act: finish"])
    said = [m["content"].removeprefix("The output of the OS:\n\n") for m in played.messages[3::2]]
    assert said[0] == "a\n[the command has written nothing for 0.5 seconds; it goes on]"
    assert said[-1].endswith("/late")
    assert "b\nc" in "\n".join(said)
    assert played.score == 1


@pytest.mark.parametrize("command", ["tail -f /dev/null", "sleep 999"])
def test_a_command_without_end_blocks_the_shell_as_in_a_terminal(
    sandbox: Sandbox, command: str
) -> None:
    task = AgentBenchOSTask(sandbox, seconds=0.3)
    played = episode(task, COUNT, [bash(command), bash("echo heard"), "Act: answer(2)"])
    assert "heard" not in played.messages[5]["content"]
    assert played.score == 1


@pytest.mark.parametrize(
    ("name", "answer", "expected", "right"),
    [
        ("integer-match", " 7\n", "7", True),
        ("integer-match", "007", "7", True),
        ("integer-match", "7.0", "7", False),
        ("integer-match", "seven", "seven", False),
        ("string-match", "a\r\nb ", "a\nb\n", True),
        ("string-match", "A", "a", False),
        ("containing", "it is yes", "yes", True),
        ("containing", "yes", "it is yes", False),
        ("containing", "yes", "", False),
        ("in", "yes", "it is yes", True),
        ("in", "", "it is yes", False),
        ("size-match", "1.5MB", "1536K", True),
        ("size-match", "4.0K\n", "4096", True),
        ("size-match", "4 KiB", "4k", True),
        ("size-match", "4K", "5K", False),
        ("size-match", "large", "large", False),
    ],
)
def test_comparisons(name: str, answer: str, expected: str, right: bool) -> None:
    assert COMPARISONS[name](answer, expected) is right


def test_sizes() -> None:
    assert [size(text) for text in ("12K", "1.5MB", "3", "2GiB", "", "K")] == [
        12288.0,
        1572864.0,
        3.0,
        2147483648.0,
        None,
        None,
    ]


def row(evaluation: Any, **more: Any) -> dict[str, Any]:
    return {"description": "Do it.", "evaluation": evaluation, **more}


INLINE = {"language": "python", "code": "import sys; sys.exit(sys.argv[1:] != ['5', '4\\n'])"}


@pytest.mark.parametrize(
    ("given", "answer", "right"),
    [
        (row({"match": "a b"}), "a b", True),
        (row({"match": " ab\r\n"}), "ab ", True),
        (row({"match": "A"}), "a", False),
        (row({"match": {"answer": "a b"}}), " a b", True),
        (row({"match": {"answer": " a", "strip": False}}), "a", False),
        (row({"match": {"answer": " a", "strip": False}}), " a", True),
        (row({"match": {"regex": "^[0-9]+ files?$"}}), " 12 files ", True),
        (row({"match": {"regex": "^[0-9]+ files?$", "strip": False}}), " 12 files ", False),
        (row({"match": {"regex": "[0-9]"}}), "none", False),
        (row({"check": "test -e /b/c"}, create={"init": ["mkdir /b", "touch /b/c"]}), "", True),
        (row({"check": [None, INLINE], "example": "echo 4"}), "5", True),
        (row({"check": [None, INLINE], "example": "echo 5"}), "5", False),
        (row({"check": [None, INLINE]}, example={"code": "echo 4"}), "5", True),
        (row({"check": {"code": '[ "$1" = 5 ]'}}), "5", True),
        (row({"check": '[ "$1" = 5 ]'}), "6", False),
        (row({"check": [None, "test -e /a"], "example": "true"}, start="touch a"), "", True),
        (row({"check": "pgrep sleep"}, start="sleep 60 & until pgrep sleep; do :; done"), "", True),
        (row({"check": "test -e /b"}, create={"init": "touch /b"}), "", True),
    ],
)
def test_evaluation(sandbox: Sandbox, given: Any, answer: str, right: bool) -> None:
    task = AgentBenchOSTask(sandbox, seconds=2)
    assert task.problem(task.read(given, 1)) is None
    assert episode(task, given, [f"Act: answer({answer})"]).score == right


def test_a_check_that_takes_too_long_fails(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qdmerge_llm.tasks.system._agentbench._MOST_SECONDS", 1)
    task = AgentBenchOSTask(sandbox, seconds=1)
    assert episode(task, row({"check": "sleep 2"}), ["Act: finish"]).score == 0


CALC = row({"check": {"file": "check/0.sh"}, "example": {"file": "example/0.sh"}})


@pytest.mark.parametrize(
    ("script", "right"),
    [
        ("echo 'calc() { python3 -c \"print($*)\"; }' >> ~/.bashrc", False),
        ("echo 'print 6; exit 0' >> ~/.bashrc", False),
        ("printf '#!/bin/sh\\necho 6\\n' > /usr/bin/calc; chmod +x /usr/bin/calc", False),
        ("printf '#!/bin/sh\\npython3 -c \"print($*)\"\\n' > /bin/calc; chmod +x /bin/calc", True),
        ("printf '#!/bin/sh\\necho $(( $* ))\\n' > /usr/bin/calc; chmod +x /usr/bin/calc", False),
        ("true", False),
    ],
)
def test_the_calculator(task: AgentBenchOSTask, script: str, right: bool) -> None:
    assert episode(task, CALC, [bash(script), "Act: finish"]).score == right


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"description": ""}, "'evaluation' must be"),
        (row({}), "needs 'match' or 'check'"),
        (row({"match": 3}), "must be text"),
        (row({"match": {}}), "'answer' or 'regex'"),
        (row({"match": {"answer": 3}}), "'answer' or 'regex'"),
        (row({"match": {"answer": "a", "strip": "no"}}), "'strip', true or false"),
        (row({"match": {"regex": "("}}), "'regex' is none"),
        (row({"match": "a"}, start={"language": "python", "code": "1"}), "must be bash"),
        (row({"match": "a"}, create={"init": ["true", 3]}), "'create.init' must be"),
        (row({"check": [None]}), "needs 'match' or 'check'"),
        (row({"check": [None, "true"]}), "needs 'example'"),
        (row({"check": {"file": "../check/7.sh"}}), "which is no path in a folder"),
        (row({"check": {"file": "/etc/passwd"}}), "which is no path in a folder"),
        (row({"check": {"language": "c++", "code": ""}}), "bash and python"),
        (row({"check": {}}), "needs 'code' or 'file'"),
        (row({"match": "a"}, create={"init": 3}), "'create.init' must be"),
    ],
)
def test_rows_of_another_form_are_refused(given: Any, message: str) -> None:
    assert message in str(AgentBenchOSTask.problem(AgentBenchOSTask.read(given, 1)))


def test_scripts_come_from_a_folder_or_their_rows_are_named(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    file = {name: {"file": f"{name}/7.sh"} for name in ("check", "example", "start", "init")}
    given = row(
        {"check": [None, file["check"]], "example": file["example"]},
        start=file["start"],
        create={"init": [file["init"]]},
    )
    item = AgentBenchOSTask.read(given, 1)
    assert AgentBenchOSTask.problem(item) is None
    texts = {"check": '[ "$1$2" = 42 ]', "example": "cat /home/x", "start": "printf 2 > /home/x"}
    texts["init"] = "mkdir /home/y"
    for name, text in texts.items():
        without = AgentBenchOSTask(sandbox, scripts=tmp_path)
        assert "which is not in" in without.unusable([item])[item["id"]]
        (tmp_path / name).mkdir()
        (tmp_path / name / "7.sh").write_text(text)
    task = AgentBenchOSTask(sandbox, scripts=tmp_path)
    assert task.unusable([item]) == {}
    assert episode(task, given, ["Act: answer(4)"]).score == 1
    assert episode(task, given, ["Act: answer(2)"]).score == 0
    assert "set 'scripts'" in AgentBenchOSTask(sandbox).unusable([item])[item["id"]]
    with pytest.raises(EvaluationError, match="set 'scripts'"):
        AgentBenchOSTask(sandbox).start(item)
    missing = AgentBenchOSTask.options_problem({"scripts": str(tmp_path / "no")})
    assert "there is no folder" in str(missing)


def test_the_text_of_a_script_counts_where_it_came_along(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "check").mkdir()
    (tmp_path / "check/integer-match.py").write_text("import sys; sys.exit(sys.argv[1] != '9')")
    task = AgentBenchOSTask(sandbox, scripts=tmp_path)
    assert [episode(task, COUNT, [f"Act: answer({n})"]).score for n in (2, 9)] == [0, 1]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (row({"check": [None, "true"], "example": "exit 3"}), "its example failed (status 3)"),
        (row({"match": "a"}, create={"init": "no-such & wait"}), "its init needs no-such"),
        (row({"check": [None, "true"], "example": "no-such | wc -l"}), "its example needs no-such"),
        (row({"match": "a"}, create={"init": "sudo true | cat"}), "needs sudo"),
        (row({"check": "sudo -u root whoami | grep -q root"}), "needs sudo"),
        (row({"check": "runuser -l bob -c 'sudo fdisk -l'"}), "needs sudo"),
        (row({"match": "a"}, create={"init": "useradd -G sudo,sys bob; groups bob"}), ""),
        (row({"check": "! groups lily | grep -q 'sudo'"}), ""),
    ],
)
def test_rows_that_cannot_be_right_here_are_named(
    sandbox: Sandbox, given: Any, reason: str
) -> None:
    if "sudo" in reason and shutil.which("sudo", path="/usr/bin:/usr/local/bin"):
        pytest.skip("sudo is there")
    item = AgentBenchOSTask.read(given, 1)
    found = AgentBenchOSTask(sandbox).unusable([item])
    assert reason in found.get(item["id"], ""), found
    assert bool(found) == bool(reason)


def test_examples_of_random_systems_are_about_the_models_own(sandbox: Sandbox) -> None:
    draw = {"init": "echo $RANDOM$RANDOM > /home/x"}
    given = row({"check": [None, {"file": "string-match"}], "example": "cat /home/x"}, create=draw)
    task = AgentBenchOSTask(sandbox)
    turns = [bash("cat /home/x"), "Act: answer({output})"]
    assert [e.score for e in replay(task, [task.read(given, 1)] * 3, lambda item: turns)] == [1] * 3


def test_an_example_leaves_nothing_in_the_models_system(task: AgentBenchOSTask) -> None:
    example = "touch /home/left; useradd bob; ls /home | wc -l"
    given = row({"check": [None, {"file": "integer-match.py"}], "example": example})
    played = episode(task, given, [bash("ls /home; grep bob /etc/passwd"), "Act: answer(1)"])
    assert played.messages[3]["content"] == "The output of the OS is empty."
    assert played.score == 1


def test_the_sums_are_different_ones_each_with_a_value() -> None:
    drawn = [sums(str(k)) for k in range(50)]
    assert len({text for texts in drawn for text in texts}) > 350
    assert all(abs(eval(text)) < 1e5 for texts in drawn for text in texts)


def test_ids_are_of_the_content_and_groups_of_the_request() -> None:
    read = AgentBenchOSTask.read
    one, two = read(row({"match": "a"}), 1), read(row({"match": "b"}), 2)
    assert one == read(row({"match": "a"}), 9)
    assert one["id"] != two["id"]
    assert one["group"] == two["group"]
    assert read({**row({"match": "a"}), "id": "mine", "group": "g"}, 1)["id"] == "mine"


def test_the_stock_log_is_the_same_for_the_same_item() -> None:
    lines = stock_log("a").splitlines()
    assert len(lines) == 401
    assert {len(line.split(" | ")) for line in lines} == {4}
    assert {line.split(" | ")[0] for line in lines} == {"Alice", "Bob"}
    assert stock_log("a") == stock_log("a") != stock_log("b")
    given = row({"match": "a"}, create={"init": {"file": "init/stock-log.sh"}})
    init = understand(given, Source("a")).init
    assert stock_log("a") in init[0].code


def test_what_starts_runs_in_the_shell_of_the_turns(task: AgentBenchOSTask) -> None:
    given = row({"match": "a"}, start="cd /tmp; colour=green; sleep 60 & sleep 61 &")
    said = episode(task, given, [bash("pwd; echo $colour; jobs -p | wc -l"), "Act: finish"])
    assert said.messages[3]["content"] == "The output of the OS:\n\n/tmp\ngreen\n2"
    given = row({"match": "a"}, start="echo no such >&2; false")
    with pytest.raises(EvaluationError, match=r"item \w+: its start failed \(no such\)"):
        episode(task, given, ["Act: finish"])


def test_a_setup_that_fails_is_an_error_not_a_score(task: AgentBenchOSTask) -> None:
    given = row({"match": "a"}, create={"init": "echo no such >&2; false"})
    with pytest.raises(EvaluationError, match=r"item \w+: its init failed \(no such\)"):
        episode(task, given, ["Act: finish"])


def test_where_root_is_alone_it_is_said(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sandbox, "users", False)
    needs = AgentBenchOSTask.read(row({"match": "a"}, create={"init": "su nobody2"}), 1)
    found = AgentBenchOSTask(sandbox).unusable([needs, AgentBenchOSTask.read(COUNT, 1)])
    assert list(found) == [needs["id"]]
    assert "root is the only user" in found[needs["id"]]


def test_set_ups_that_fail_are_named_and_those_that_work_are_tried_once(
    task: AgentBenchOSTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = task.read(row({"match": "a"}, create={"init": "echo no such >&2; exit 3"}), 1)
    good = task.read(row({"match": "b"}, start="true"), 1)
    plain = task.read(row({"match": "c"}), 1)
    again = {**broken, "id": "again"}
    found = task.unusable([broken, good, plain, again])
    assert list(found) == [broken["id"], "again"]
    assert found["again"].startswith("its init failed (no such)")
    tried: list[Any] = []
    monkeypatch.setattr(task, "_try", lambda setup: tried.append(setup) or "")
    assert task.unusable([broken, good, again]) == {}, "what failed may have passed"
    assert len(tried) == 1


def test_what_started_is_closed_where_another_does_not(task: AgentBenchOSTask) -> None:
    items = [task.read(row({"match": "a"}), 1), task.read(row({"match": "a"}, start="false"), 2)]
    opened: list[Episode] = []
    with pytest.raises(EvaluationError, match="its start failed"):
        task.begin(items, opened)
    assert [e.item["id"] for e in opened] == [items[0]["id"]]
    task.close(opened[0])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("agentbench_os", {"rounds": 0}),
        ("agentbench_os", {"seconds": -1}),
        ("agentbench_os", {"seconds": float("inf")}),
        ("agentbench_os", {"cpu_seconds": 0}),
        ("agentbench_os", {"output_chars": 5}),
        ("agentbench_db", {"rounds": -1}),
        ("mbpp", {"seconds": 0}),
        ("humaneval", {"cpu_seconds": 0}),
        ("python", {"seconds": 0}),
        ("shell", {"cpu_seconds": -1}),
    ],
)
def test_limits_that_are_none_are_refused(kind: str, options: dict[str, Any]) -> None:
    (line,) = KINDS.problems(kind, options)
    assert line.startswith(f"task kind '{kind}': '{next(iter(options))}': Input should be ")


def test_episodes_run_side_by_side(sandbox: Sandbox) -> None:
    task = AgentBenchOSTask(sandbox, seconds=10)
    say: Callable[[Any], list[str]] = lambda prompts: [  # noqa: E731
        "Act: answer(a)" if len(p) > 2 else bash("sleep 0.5; cat /root/x; echo $$ > /root/x")
        for p in prompts
    ]
    items = [task.read(row({"match": "a"}), k) | {"id": str(k)} for k in range(4)]
    episodes = task.play(items, say)
    assert [e.score for e in episodes] == [1] * 4
    assert all("No such file" in e.messages[3]["content"] for e in episodes)
