"""MBPP+ and HumanEval+ as EvalPlus scores them."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest

from qdmerge_llm.sandbox import Sandbox
from qdmerge_llm.tasks.coding import HumanEvalTask, MBPPTask
from qdmerge_llm.tasks.coding._program import decode
from qdmerge_llm.tasks.coding._reading import example_calls
from tests.backends.llm.test_coding import ROWS, humaneval, mbpp, needs_rows, rows_of, score

AS_LISTS = {98, 104, 140, 145}  # tuples in the assertions, lists in EvalPlus
OTHERWISE = {124: "(0.0, 1j)", 252: "((1+0j),)", 301: None, 582: None, 596: None, 803: "(10,)"}


@needs_rows
def test_inputs_are_those_of_evalplus() -> None:
    """They are what the assertions give, but for the tasks where EvalPlus' own are others."""
    for row in rows_of(ROWS):
        found = [repr(decode(given)) for given in MBPPTask.inputs(row)["base"]]
        examples = list(map(repr, example_calls(row["assertion"], row["entry_point"])))
        number = row["task_id"]
        if number in AS_LISTS:
            assert found == [repr(tuple(call)) for call in row["base_input"]], number
        elif number in OTHERWISE:
            assert found[0] == (OTHERWISE[number] or found[0]), number
        else:
            assert found == examples, number


def in_evalplus_form(row: dict[str, Any]) -> dict[str, Any]:
    """The row as EvalPlus ships it: no tests of MBPP, ``Mbpp/N``, and inputs to add to its own."""
    kept = {k: v for k, v in row.items() if k not in ("test_list", "test_imports")}
    base = row["base_input"]
    crossed = [
        [call[k % len(base)][place] for place, k in enumerate(drawn)]
        for drawn in product(range(len(base)), repeat=min(len(base[0]), 3))
        for call in [base]
    ]
    plus = [one for one in crossed if len(one) == len(base[0]) and one not in base]
    return kept | {"task_id": f"Mbpp/{row['task_id']}", "plus_input": (plus[:20] or base)[::-1]}


@needs_rows
def test_gold_replay_of_mbpp_with_plus_inputs(sandbox: Sandbox) -> None:
    rows = [in_evalplus_form(row) for row in rows_of(ROWS)[::4]]
    task = MBPPTask(sandbox)
    items = [dict(task.read(row, number)) for number, row in enumerate(rows, 1)]
    assert [task.problem(item) for item in items] == [None] * len(rows)
    failed = task.unusable(items)  # references that refuse such inputs
    assert all("does not run on plus input" in reason for reason in failed.values()), failed
    assert len(failed) < len(items) / 4
    items = [item | {"plus_input": []} if item["id"] in failed else item for item in items]
    scores = task.evaluate_all(items, lambda asked: [task.gold(item)[0] for item in items])
    assert {name: score.tolist() for name, score in scores.items()} == {
        "": [1.0] * len(items),
        "base": [1.0] * len(items),
    }


def plain(entry: str, code: str, given: list[Any], **changes: Any) -> dict[str, Any]:
    """A row of EvalPlus with one input."""
    row = {"entry_point": entry, "canonical_solution": code, "base_input": [given], "atol": 0}
    bare = {"task_id": "Mbpp/999", "assertion": "", "test_list": [], "plus_input": []}
    return mbpp(**(bare | row | changes))


LISTS, NAN = "def Diff(x): return [1, 2]", float("nan")
MATCHES = "import re\ndef check_str(x): return re.match(x, 'a')"
JUDGED = {  # the row, an answer's output and its score in EvalPlus
    "sets": (plain("Diff", LISTS, [0]), {"[2, 1, 1]": 1, "{1, 2}": 1, "[1]": 0, "1": 0, "[[]]": 0}),
    "no sets": (plain("f", "def f(x): return [1, 2]", [0]), {"[2, 1]": 0, "(1, 2)": 0}),
    "there": (plain("check_str", MATCHES, ["a"]), {"True": 1, "7": 1, "None": 0, "False": 0}),
    "absent": (plain("check_str", MATCHES, ["b"]), {"None": 1, "False": 1, "7": 0, "True": 0}),
    "any": (plain("are_equivalent", "def are_equivalent(a): return True", [1]), {"None": 1}),
    "zero": (plain("sum_div", "def sum_div(n): return 8", [8]), {"8": 1, "0": 1, "7": 0}),
    "surface": (
        plain("surface_Area", "def surface_Area(b, h): return 33", [3, 4]),
        {"33": 1, "35": 1, "34": 0, "'35'": 0},
    ),
    "digits": (
        plain("digit_distance_nums", "def digit_distance_nums(a, b): return 0", [1, 200]),
        {"0": 1, "3": 1, "2": 0},
    ),
    "type": (plain("f", "def f(x): return 1.0", [0]), {"1": 1, "True": 1, "1.0000001": 1}),
    "ints": (plain("f", "def f(x): return 2", [0], atol=0.1), {"2.0": 1, "2.0001": 0}),
    "tuples": (plain("f", "def f(x): return (0.3,)", [0]), {"(0.1 + 0.2,)": 1, "[0.3]": 0}),
    "numpy": (
        plain("f", "def f(x): return 0.3", [0]),
        {"np.float64(0.3)": 1, "np.float64(0.1) + 0.2": 0, "np.array([0.3])": 0},
    ),
    "numpy's": (plain("f", "def f(x): return [3]", [0]), {"[np.int64(3)]": 1, "np.array([3])": 0}),
    "infinite": (plain("f", "def f(x): return x", [math.inf]), {"1e308 * 10": 1, "1e308": 0}),
    "nan": (plain("f", "def f(x): return x", [NAN]), {"float('nan')": 1, "0.0": 0}),
}


@pytest.mark.parametrize("name", JUDGED)
def test_outputs_are_judged_as_in_evalplus(name: str, sandbox: Sandbox) -> None:
    item, outputs = JUDGED[name]
    answers = [f"import numpy as np\ndef {item['entry_point']}(*x): return {o}" for o in outputs]
    assert score(MBPPTask(sandbox), item, *answers) == list(outputs.values())


def test_rounding_counts_after_the_first_float(sandbox: Sandbox) -> None:
    """As in EvalPlus, whose tolerance stays once a float was expected; plus inputs begin anew."""
    code = "def f(x): return [0.3] if x else [1, 0.3]"
    answer = "def f(x): return [0.3] if x else [1, 0.1 + 0.2]"
    orders = {((1,), (0,)): 1, ((0,), (1,)): 0}
    for order, right in orders.items():
        item = plain("f", code, [], base_input=[list(one) for one in order])
        assert score(MBPPTask(sandbox), item, answer) == [right]


def test_base_and_plus_in_columns(sandbox: Sandbox) -> None:
    item = plain("f", "def f(x): return x * x", [2], plus_input=[[3]])
    none = plain("f", "def f(x): return x * x", [2], task_id="Mbpp/998")
    said = ["def f(x): return x + x", "def f(x): return x * x", "def f(x): return 0", "", "import"]
    said += ["import os\ndef f(x): return 4 if x == 2 else os._exit(0)"]
    base, plus = [1, 1, 0, 0, 0, 1], [0, 1, 0, 0, 0, 0]
    for tests, score_, other in (("plus", plus, "base"), ("base", base, "plus")):
        task = MBPPTask(sandbox, tests=tests)  # type: ignore[arg-type]
        found = task.evaluate_all([item] * len(said), lambda asked: said)
        assert found[""].tolist() == score_
        assert found[other].tolist() == (base if other == "base" else plus)
        found = task.evaluate_all([none], lambda asked: said[:1])
        assert {name: one.tolist() for name, one in found.items()} == {"": [1]}


@pytest.mark.parametrize(
    "after",
    ["1 / 0", "assert f(2) == 5", "import os; os._exit(0)", "raise SystemExit", "f(1, 2)"],
)
def test_an_answer_must_run_to_its_end(after: str, sandbox: Sandbox) -> None:
    code = "def f(x): return x * x"
    works = f"{code}\nprint(f(3))\nassert f(2) == 4\nif __name__ == '__main__': 1 / 0"
    item = plain("f", code, [2])
    assert score(MBPPTask(sandbox), item, f"{code}\n{after}", works) == [0, 1]


def test_each_input_has_its_time(sandbox: Sandbox) -> None:
    work = "def f(x):\n    import time\n    end = time.process_time() + {0}\n"
    work += "    while time.process_time() < end: pass\n    return x"
    item = plain("f", work.format(0.3), [], base_input=[[1], [2]])
    hidden = "def f(x):\n    while True:\n        try:\n            while True: pass\n"
    hidden += "        except Exception: pass"
    stuck = "def f(x): return 9 ** 9 ** 9"
    answers = work.format(1), work.format(5), hidden, stuck
    assert score(MBPPTask(sandbox), item, *answers) == [1, 0, 0, 0]
    asleep = "import time\ndef f(x): time.sleep(99)"
    assert score(MBPPTask(sandbox, seconds=0.5), plain("f", "def f(x): return x", [1]), asleep) == [
        0
    ]


def test_large_outputs(sandbox: Sandbox) -> None:
    item = plain("f", "def f(x): return [x] * 200_000", [7])
    more = "def f(x): return [x] * 2_000_000"
    assert score(MBPPTask(sandbox), item, item["canonical_solution"], more) == [1, 0]


def test_humaneval_with_plus_inputs(sandbox: Sandbox) -> None:
    right = "def root(x):\n    return x ** 0.5"
    base_only = "def root(x):\n    return {4: 2.0, 9: 3.0}[x]"
    extra = {"base_input": [[4], [9]], "plus_input": [[2], [math.inf]], "atol": 0}
    with_test = {key: extra[key] for key in ("plus_input", "atol")}
    half = "def check(candidate):\n    assert candidate(4) == 2\n"
    for row in (humaneval(**extra), humaneval(test=half, **with_test)):
        found = HumanEvalTask(sandbox).evaluate_all(
            [row] * 3, lambda asked: [right, base_only, "def root(x): return x"]
        )
        assert (found[""].tolist(), found["base"].tolist()) == ([1, 0, 0], [1, 1, 0])
    zero = humaneval(
        entry_point="find_zero",
        prompt="def find_zero(xs: list):\n",
        canonical_solution="    return 1.0\n",
        base_input=[[[1, -2, 1]], [[0, 0]]],
        atol=1e-4,
    )
    answers = ("def find_zero(xs): return 1.001", "def find_zero(xs): return 2")
    assert score(HumanEvalTask(sandbox), zero, *answers) == [1, 0]
