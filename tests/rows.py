"""A row of every kind of task, as it should be."""

from __future__ import annotations

from typing import Any

ROWS: dict[str, dict[str, Any]] = {
    "python": {
        "id": "1",
        "prompt": "Add.",
        "group": "add",
        "entry": "add",
        "tests": [{"args": [1, 2], "expected": 3}],
    },
    "shell": {"id": "1", "prompt": "List.", "files": {"a/b": "x"}, "expected": "a"},
    "sql": {
        "id": "1",
        "prompt": "How many?",
        "setup": "CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1);",
        "reference": "SELECT COUNT(*) FROM t",
    },
    "mbpp": {
        "task_id": "Mbpp/2",
        "prompt": "Add two numbers.",
        "entry_point": "add",
        "canonical_solution": "def add(a, b):\n    return a + b",
        "base_input": [[[1, 2], [3, 4]]],
        "plus_input": [[[0.5], [-1]]],
        "atol": 0,
        "assertion": "assert add(1, 2) == 3",
        "test_list": ["assert add(1, 2) == 3"],
        "contract": "",
    },
    "humaneval": {
        "task_id": "HumanEval/0",
        "prompt": 'def add(a, b):\n    """Add."""\n',
        "entry_point": "add",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
        "base_input": [[1, 2]],
        "plus_input": [[2, 2]],
    },
    "agentbench_db": {
        "description": "What is the sum?",
        "label": ["3"],
        "type": ["other"],
        "table": {
            "table_name": "t",
            "table_info": {
                "columns": [{"name": "a", "type": "TEXT"}, {"name": "b", "type": "INT"}],
                "rows": [["x", 1], ["y", 2]],
            },
        },
        "sql": {"query": "SELECT SUM(b) FROM t"},
        "answer_md5": "",
    },
    "agentbench_os": {
        "description": "How many files are in /tmp?",
        "create": {"init": {"code": "touch /tmp/a"}},
        "start": "true",
        "evaluation": {
            "check": [None, {"language": "python", "code": "exit(0)"}],
            "example": {"code": "ls /tmp | wc -l"},
        },
        "labels": ["x"],
    },
}
