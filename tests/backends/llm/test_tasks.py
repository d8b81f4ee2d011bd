from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdmerge.errors import EvaluationError
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import KINDS, PythonTask, ShellTask, SqlTask, extract
from qdmerge_llm.tasks._executed import run_batch
from tests.backends.llm.conftest import MAKERS

DOUBLE = {
    "prompt": "double",
    "entry": "f",
    "tests": [{"args": [2], "expected": 4}, {"args": ["ab"], "expected": "abab"}],
}
GOOD = "def f(x):\n    return x * 2"


def score_one(task: Any, item: dict[str, Any], answer: str) -> float:
    return float(task.score([item], [answer])[0])


@pytest.mark.parametrize("kind", list(MAKERS))
def test_gold_answers_pass_and_those_of_others_fail(kind: str, sandbox: Sandbox) -> None:
    items = [MAKERS[kind](k) for k in range(10, 20)]
    task = KINDS.build(kind, {}, {"sandbox": sandbox})
    gold = [item["answer"] for item in items]
    scores = task.score(items, gold)
    assert scores.dtype == np.float64
    assert scores.tolist() == [1.0] * 10
    assert task.score(items, gold[1:] + gold[:1]).tolist() == [0.0] * 10
    half = [answer if k % 2 else "no such thing" for k, answer in enumerate(gold)]
    assert task.score(items, half).tolist() == [0.0, 1.0] * 5
    assert task.score(items, [""] * 10).tolist() == [0.0] * 10
    assert task.score([], []).shape == (0,)


@pytest.mark.parametrize("kind", list(MAKERS))
@pytest.mark.parametrize("garbage", ["\x00", "\udcff\ufffe", "((((" * 3000, "'", "\n\n", "é\u2028"])
def test_garbage_fails_quietly(kind: str, garbage: str, sandbox: Sandbox) -> None:
    task = KINDS.build(kind, {}, {"sandbox": sandbox})
    assert score_one(task, MAKERS[kind](3), garbage) == 0


@pytest.mark.parametrize(
    ("expected", "returned", "passes"),
    [
        (3, "3", True),
        (3, "3.0", True),
        (0.3, "0.1 + 0.2", True),
        (0.3, "0.30001", False),
        ([1, 2], "(1, 2)", True),
        ([1, 2], "[2, 1]", False),
        ([1, 2], "{1, 2}", False),
        ("a", "'a'", True),
        ("1", "1", False),
        (1, "'1'", False),
        (None, "None", True),
        (None, "0", False),
        ({"a": [1.0]}, "{'a': [1.0 + 1e-9]}", True),
        ({"a": 1}, "{'a': 1, 'b': 2}", False),
        (float("nan"), "float('nan')", False),
        (10**400, "10**400", True),
        (1.5, "10**400", False),
        (True, "object()", False),
    ],
)
def test_comparison_of_values(expected: Any, returned: str, passes: bool, sandbox: Sandbox) -> None:
    item = {"entry": "f", "tests": [{"args": [], "expected": expected}]}
    assert score_one(PythonTask(sandbox), item, f"def f(): return {returned}") == passes


PYTHON_CHEATS = {
    "exit 0": "import os\nos._exit(0)",
    "sys.exit": "import sys\nsys.exit(0)",
    "exit in the function": "import os\ndef f(x): os._exit(0)",
    "print": "print('[[true, 4], [true, \"abab\"]]')\ndef f(x): return 0",
    "one test only": "def f(x):\n    return 4",
    "raises": "def f(x): raise SystemExit",
    "equal to all": "class A:\n    __eq__ = lambda s, o: True\ndef f(x): return A()",
    "equal str": "class A(str):\n    __eq__ = lambda s, o: True\ndef f(x): return A('q')",
    "no function": "g = 1",
    "not callable": "f = 1",
    "deep": "def f(x): return f(x)",
    "deep value": "def f(x):\n    for _ in range(10**5): x = [x]\n    return x",
    "huge value": "def f(x): return 'a' * 10**6",
    "patched": "import json\njson.dumps = lambda *a, **k: 'true'\ndef f(x): return 1",
    "forged result": "import os\nos.write(3, b'[[true, 1], [true, 1]]')\nos._exit(0)",
    "half a result": "import os\nos.write(3, b'[[tr')\nos._exit(0)",
    "stack": "import ctypes\nctypes.string_at(0)",
}


def test_cheating_does_not_pass_nor_touch_others(sandbox: Sandbox) -> None:
    answers = [answer for cheat in PYTHON_CHEATS.values() for answer in (cheat, GOOD)]
    scores = PythonTask(sandbox).score([DOUBLE] * len(answers), answers)
    wrong = scores[::2] != 0
    assert not wrong.any(), np.array(list(PYTHON_CHEATS))[wrong]
    assert scores[1::2].all()


HOSTILE = {
    "kill the runner": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "kill everyone": "import os, signal\nos.kill(-1, signal.SIGKILL)",
    "stop the runner": "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)",
    "fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
    "loop": "while True: pass",
    "sleep": "import time\ntime.sleep(100)",
    "memory": "x = [bytearray(1 << 28) for _ in range(100)]",
    "delete": "import os\nos.system('chmod -R 0 /tmp/*; rm -rf /tmp/* /tmp/.* /*')",
    "fill the disk": "import os\nos.system('for i in $(seq 9); do yes > /tmp/$i; done')",
    "daemon": "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: pass",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_answers_harm_only_themselves(attack: str, sandbox: Sandbox) -> None:
    task = PythonTask(sandbox, seconds=2.0)
    answers = [GOOD, HOSTILE[attack], GOOD, GOOD]
    assert task.score([DOUBLE] * 4, answers).tolist() == [1, 0, 1, 1]


def test_runner_is_closed_to_its_children(sandbox: Sandbox) -> None:
    """No answer can write to the stream that carries the results of others, or into the runner."""
    code = """
import os
parent = os.getppid()
reached = []
for path in [f"fd/{number}" for number in range(20)] + ["mem", "environ", "cwd/x"]:
    try:
        os.open(f"/proc/{parent}/{path}", os.O_RDWR)
        reached.append(path)
    except PermissionError:
        pass
for number in range(4, 256):
    try:
        os.fstat(number)
        reached.append(number)
    except OSError:
        pass
def f(): return [str(r) for r in reached]
"""
    item = {"entry": "f", "tests": [{"args": [], "expected": []}]}
    assert score_one(PythonTask(sandbox), item, code) == 1


def test_expected_values_never_enter_the_sandbox(sandbox: Sandbox) -> None:
    """An answer that searches its own memory for what is expected does not find it."""
    item = {"entry": "f", "tests": [{"args": [1], "expected": "needle-in-the-haystack"}]}
    code = """
import gc, sys
def f(x):
    frame, seen = sys._getframe(), ""
    while frame:
        seen += repr(frame.f_locals) + repr(frame.f_globals)
        frame = frame.f_back
    seen += "".join(repr(o) for o in gc.get_objects() if isinstance(o, (dict, list, tuple)))[:10**7]
    needle = "kcatsyah-eht-ni-eldeen"[::-1]
    return needle if needle in seen else ""
"""
    assert score_one(PythonTask(sandbox), item, code) == 0
    assert item["tests"][0]["expected"] not in repr(PythonTask(sandbox)._payload(item, code))


SETUP = (
    "CREATE TABLE t (a INT, b TEXT, c REAL);"
    "INSERT INTO t VALUES (1, 'x', 0.1), (2, 'y', 0.2), (3, NULL, 0.3), (3, NULL, 0.3);"
)


def sql_item(reference: str, ordered: bool = False) -> dict[str, Any]:
    return {"setup": SETUP, "reference": reference, "ordered": ordered}


@pytest.mark.parametrize(
    ("reference", "answer", "ordered", "passes"),
    [
        ("SELECT a FROM t", "SELECT a FROM t ORDER BY a DESC", False, True),
        ("SELECT a FROM t ORDER BY a", "SELECT a FROM t ORDER BY a DESC", True, False),
        ("SELECT a FROM t ORDER BY a", "select a from t order by a;", True, True),
        ("SELECT a FROM t", "SELECT DISTINCT a FROM t", False, False),
        ("SELECT a FROM t", "WITH u AS (SELECT a FROM t) SELECT a FROM u", False, True),
        ("SELECT a, b FROM t", "SELECT b, a FROM t", False, False),
        ("SELECT SUM(c) FROM t", "SELECT 0.9", False, True),
        ("SELECT SUM(c) FROM t", "SELECT 0.9001", False, False),
        ("SELECT COUNT(*) FROM t", "SELECT 4.0", False, True),
        ("SELECT COUNT(*) FROM t", "SELECT '4'", False, False),
        ("SELECT b FROM t WHERE a = 3", "SELECT NULL UNION ALL SELECT NULL", False, True),
        ("SELECT x'00ff'", "SELECT x'00ff'", False, True),
        ("SELECT a FROM t", "SELECT a FROM t; SELECT a FROM t", False, False),
        ("SELECT a FROM t", "EXPLAIN SELECT a FROM t", False, False),
        ("SELECT a FROM t", "SELECT a FROM t WHERE", False, False),
        ("SELECT a FROM t WHERE a > 9", "DELETE FROM t", False, False),
        ("SELECT a FROM t WHERE a > 9", "SELECT a FROM t WHERE a > 8", False, True),
    ],
)
def test_sql_comparison(
    reference: str, answer: str, ordered: bool, passes: bool, sandbox: Sandbox
) -> None:
    assert score_one(SqlTask(sandbox), sql_item(reference, ordered), answer) == passes


def test_sql_reads_and_nothing_else(sandbox: Sandbox) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT "
    attacks = [
        "ATTACH 'x.db' AS x",
        "PRAGMA user_version",
        "SELECT * FROM pragma_user_version",
        "SELECT load_extension('x')",
        "WITH u AS (SELECT 1) DELETE FROM t",
        "INSERT INTO t SELECT * FROM t",
        "VACUUM INTO 'x.db'",
        endless + "COUNT(*) FROM n",
        endless + "i FROM n",
        "SELECT zeroblob(2000000000)",
        "SELECT group_concat(hex(randomblob(900000))) FROM t, t u, t v",
        "SELECT printf('%1000000000d', 1)",
    ]
    items = [sql_item("SELECT a FROM t")] * (len(attacks) + 1)
    scores = SqlTask(sandbox).score(items, [*attacks, "SELECT a FROM t"])
    assert scores.tolist() == [0] * len(attacks) + [1]


def test_sql_answers_end_at_the_semicolon(sandbox: Sandbox) -> None:
    items = [{"prompt": "", **sql_item("SELECT a FROM t")}]
    scores = SqlTask(sandbox).evaluate(items, lambda prompts: [" SELECT a FROM t; and more"])
    assert scores.tolist() == [1]


@pytest.mark.parametrize(
    ("command", "expected", "passes"),
    [
        ("cat a.txt", "one\ntwo\n", True),
        ("cat a.txt", "one  \ntwo\n\n", True),
        ("cat a.txt | wc -l", "2", True),
        ("cat a.txt", "one two", False),
        ("cat d/b.txt; exit 3", "deep", True),
        ("echo one >&2; echo two >&2", "one\ntwo", False),
        ("ls", "a.txt\nd", True),
        ("cat a.txt | awk '{ print $1 }' | sort -r | head -n 1", "two", True),
        ("for i in {1..3}; do echo $i; done", "1\n2\n3", True),
        ("sleep 30 & cat a.txt", "one\ntwo", True),
        ("cat", "", True),
        ("yes", "y", False),
        ("sed -i s/one/1/ a.txt && cat a.txt", "1\ntwo", True),
    ],
)
def test_shell(command: str, expected: str, passes: bool, sandbox: Sandbox) -> None:
    item = {"files": {"a.txt": "one\ntwo\n", "d/b.txt": "deep"}, "expected": expected}
    assert score_one(ShellTask(sandbox), item, command) == passes


def test_items_do_not_see_each_other(sandbox: Sandbox) -> None:
    item = {"files": {"a.txt": "one\n"}, "expected": "a.txt\n"}
    commands = [
        "touch ../b ./c /tmp/d; echo x > a.txt; mkdir -m 0 e; ls -d a.txt",
        "ls ..  | grep -v item; find . /tmp -name '[bcde]' | head; ls",
        "echo 'echo hacked' > ~/.bashrc; export PATH=; echo a.txt",
        "ls",
    ]
    assert ShellTask(sandbox).score([item] * 4, commands).tolist() == [1] * 4


def test_slow_answers_fail_and_the_others_count(sandbox: Sandbox) -> None:
    item = {"files": {}, "expected": "x"}
    scores = ShellTask(sandbox, seconds=0.5).score([item] * 3, ["echo x", "sleep 9", "echo x"])
    assert scores.tolist() == [1, 0, 1]


def test_an_answer_is_executed_once_unless_it_was_stopped(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, item = SqlTask(sandbox), MAKERS["sql"](3)
    assert score_one(queries, item, "SELECT nothing") == 0
    items = [{"files": {}, "expected": expected} for expected in ("x", "y")]
    task = ShellTask(sandbox, seconds=0.5)
    answers = ["echo x", "echo x"]
    assert task.score(items, answers).tolist() == [1, 0]
    assert task.score(items[:1], ["sleep 9"]).tolist() == [0]
    monkeypatch.setattr(Sandbox, "python", "/bin/false")  # nothing runs any more
    assert task.score(items, answers).tolist() == [1, 0]
    assert task.score(items[::-1], answers).tolist() == [0, 1]
    assert score_one(queries, item, "SELECT nothing") == 0
    for answer in ("sleep 9", "echo y"):
        with pytest.raises(EvaluationError, match="Python did not start"):
            task.score(items[:1], [answer])


def test_a_broken_sandbox_is_an_error_not_a_score(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sandbox, "python", "/bin/false")
    with pytest.raises(EvaluationError, match="Python did not start"):
        PythonTask(sandbox).score([DOUBLE], [GOOD])


def test_unsandboxed_tasks_work_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDMERGE_BWRAP", "/nonexistent")
    free = Sandbox(allow_unsandboxed=True)
    answers = [GOOD, "import os\nos.kill(os.getppid(), 9)", "while True: pass", GOOD]
    assert PythonTask(free).score([DOUBLE] * 4, answers).tolist() == [1, 0, 0, 1]
    for kind in ("sql", "shell"):
        item = MAKERS[kind](7)
        task = KINDS.build(kind, {}, {"sandbox": free})
        assert task.score([item, item], [item["answer"], "x"]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "stop", "answer"),
    [
        ("  SELECT 1; more", (";",), "SELECT 1"),
        ("\ndef f():\n    return 1\n\n", (), "def f():\n    return 1"),
        ("a ### b STOP", ("STOP", "###"), "a"),
        ("", (";",), ""),
    ],
)
def test_extraction(text: str, stop: tuple[str, ...], answer: str) -> None:
    assert extract(text, stop) == answer


def test_the_setup_of_a_data_set_reaches_no_file_of_the_host(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    target = tmp_path / "x.db"
    for setup in (f"ATTACH '{target}' AS x; CREATE TABLE x.t (a);", f"VACUUM INTO '{target}';"):
        item = {"id": "1", "setup": setup, "reference": "SELECT 1"}
        assert "1" in SqlTask(sandbox).unusable([item])
    assert not target.exists()


def test_sets_have_one_order_in_every_sandbox(sandbox: Sandbox) -> None:
    words = [f"word{k}" for k in range(12)]
    item = {"entry": "f", "tests": [{"args": [words], "expected": 0}]}
    answer = "def f(words): return list(set(words))"
    task = PythonTask(sandbox)
    payload = task._payload(item, answer)
    texts = {run_batch(sandbox, PythonTask.program, [payload], 10.0, 1)[0].text for _ in range(4)}
    assert len(texts) == 1
